//! The config `standard`: credentials, and what identifies or belongs to people beyond their name.

/// Its text. Names stand in one spelling, because case, `_` and `-` do not matter.
pub(super) const JSON: &str = r#"{
  "id": "standard",
  "keys": [
    "password", {"name": "passwd", "category": "PASSWORD"}, {"name": "pwd", "category": "PASSWORD"},
    {"name": "passphrase", "category": "PASSWORD"}, {"name": "newPassword", "category": "PASSWORD"},
    {"name": "oldPassword", "category": "PASSWORD"}, {"name": "currentPassword", "category": "PASSWORD"},
    {"name": "confirmPassword", "category": "PASSWORD"}, {"name": "passwordConfirmation", "category": "PASSWORD"},
    "secret", {"name": "clientSecret", "category": "SECRET"}, {"name": "sharedSecret", "category": "SECRET"},
    {"name": "secretKey", "category": "SECRET"}, {"name": "secretAccessKey", "category": "SECRET"},
    {"name": "consumerSecret", "category": "SECRET"}, {"name": "appSecret", "category": "SECRET"},
    {"name": "privateKey", "category": "PRIVATE_KEY"}, {"name": "otp", "category": "CODE"}, {"name": "pin", "category": "CODE"},
    {"name": "apiKey", "category": "API_KEY"}, {"name": "xApiKey", "category": "API_KEY"},
    {"name": "accessKey", "category": "API_KEY"}, {"name": "subscriptionKey", "category": "API_KEY"},
    "token", {"name": "accessToken", "category": "TOKEN"}, {"name": "refreshToken", "category": "TOKEN"},
    {"name": "idToken", "category": "TOKEN"}, {"name": "authToken", "category": "TOKEN"},
    {"name": "sessionToken", "category": "TOKEN"}, {"name": "bearerToken", "category": "TOKEN"},
    {"name": "sessionId", "category": "SESSION"}, {"name": "jsessionid", "category": "SESSION"},
    "authorization", "email", {"name": "emailAddress", "category": "EMAIL"},
    "phone", {"name": "phoneNumber", "category": "PHONE"}, {"name": "mobileNumber", "category": "PHONE"},
    "ssn", {"name": "socialSecurityNumber", "category": "SSN"}, {"name": "taxId", "category": "TAX_ID"},
    {"name": "cardNumber", "category": "CREDIT_CARD"}, {"name": "creditCardNumber", "category": "CREDIT_CARD"},
    {"name": "ccNumber", "category": "CREDIT_CARD"}, {"name": "pan", "category": "CREDIT_CARD"},
    "cvv", {"name": "cvc", "category": "CVV"}, {"name": "cvv2", "category": "CVV"}, {"name": "securityCode", "category": "CVV"},
    "iban", {"name": "accountNumber", "category": "BANK_ACCOUNT"}, {"name": "routingNumber", "category": "BANK_ACCOUNT"}
  ],
  "headers": [
    "authorization", {"name": "proxy-authorization", "category": "AUTHORIZATION"},
    {"name": "x-api-key", "category": "API_KEY"}, {"name": "api-key", "category": "API_KEY"},
    {"name": "x-goog-api-key", "category": "API_KEY"}, {"name": "x-functions-key", "category": "API_KEY"},
    {"name": "ocp-apim-subscription-key", "category": "API_KEY"}, {"name": "x-auth-token", "category": "TOKEN"},
    {"name": "x-access-token", "category": "TOKEN"}, {"name": "x-amz-security-token", "category": "TOKEN"}
  ],
  "query": [
    {"name": "key", "category": "API_KEY"}, "code", {"name": "sig", "category": "SIGNATURE"}, "signature",
    {"name": "X-Amz-Signature", "category": "SIGNATURE"}, {"name": "X-Amz-Credential", "category": "AWS_ACCESS_KEY"},
    {"name": "X-Amz-Security-Token", "category": "TOKEN"}
  ],
  "cookies": [
    "session", {"name": "sessionid", "category": "SESSION"}, {"name": "sid", "category": "SESSION"},
    {"name": "connect.sid", "category": "SESSION"}, {"name": "jsessionid", "category": "SESSION"},
    {"name": "phpsessid", "category": "SESSION"}, {"name": "asp.net_sessionid", "category": "SESSION"},
    {"name": "access_token", "category": "TOKEN"}, {"name": "refresh_token", "category": "TOKEN"}
  ],
  "patterns": ["private_key", "url_password", "aws_access_key", "email", "credit_card", "iban", "ssn"]
}"#;

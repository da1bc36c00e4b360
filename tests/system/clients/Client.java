// A SUT in Java: java.net.http sends, Nimbus JOSE verifies through the key set that the responder serves.
//
// Reads a plan from standard input and writes what became of it, both JSON; plan.rs says what is in them.

import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.jwk.JWKSet;
import com.nimbusds.jose.jwk.source.ImmutableJWKSet;
import com.nimbusds.jose.proc.JWSVerificationKeySelector;
import com.nimbusds.jose.proc.SecurityContext;
import com.nimbusds.jose.util.JSONArrayUtils;
import com.nimbusds.jose.util.JSONObjectUtils;
import com.nimbusds.jwt.proc.DefaultJWTClaimsVerifier;
import com.nimbusds.jwt.proc.DefaultJWTProcessor;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;

public class Client {
    static final HttpClient HTTP = HttpClient.newHttpClient();
    static final AtomicInteger REQUESTS = new AtomicInteger();
    static final AtomicInteger OWN = new AtomicInteger();
    static final AtomicInteger VERIFIED = new AtomicInteger();
    static final List<String> WRONG = Collections.synchronizedList(new ArrayList<>());
    static Map<String, Object> plan;
    static DefaultJWTProcessor<SecurityContext> processor = new DefaultJWTProcessor<>();

    public static void main(String[] arguments) throws Exception {
        plan = JSONObjectUtils.parse(new String(System.in.readAllBytes(), StandardCharsets.UTF_8));
        var fetched = HTTP.send(HttpRequest.newBuilder(URI.create((String) plan.get("jwks"))).build(), BodyHandlers.ofString());
        var algs = new HashSet<JWSAlgorithm>();
        for (Object alg : (List<?>) plan.get("algs")) algs.add(JWSAlgorithm.parse((String) alg));
        processor.setJWSKeySelector(new JWSVerificationKeySelector<>(algs, new ImmutableJWKSet<>(JWKSet.parse(fetched.body()))));
        var verifier = new DefaultJWTClaimsVerifier<>(null, null);
        verifier.setMaxClockSkew(0);
        processor.setJWTClaimsSetVerifier(verifier);
        if (plan.containsKey("faults")) {
            System.out.println(JSONObjectUtils.toJSONString(refusals()));
            return;
        }
        var pool = Executors.newFixedThreadPool(8);
        var running = new ArrayList<Future<?>>();
        for (Object user : (List<?>) plan.get("users")) {
            running.add(pool.submit(() -> { run(steps(user)); return null; }));
        }
        for (var one : running) one.get();
        pool.shutdown();
        var told = new HashMap<String, Object>();
        told.put("requests", REQUESTS.get());
        told.put("own", OWN.get());
        told.put("verified", Map.of("Nimbus JOSE", VERIFIED.get()));
        told.put("wrong", WRONG);
        System.out.println(JSONObjectUtils.toJSONString(told));
    }

    @SuppressWarnings("unchecked")
    static List<Map<String, Object>> steps(Object user) {
        return (List<Map<String, Object>>) ((Map<String, Object>) user).get("steps");
    }

    /** How Nimbus takes tokens that are unsound in one way each. */
    @SuppressWarnings("unchecked")
    static Map<String, Object> refusals() throws Exception {
        var required = new com.nimbusds.jwt.JWTClaimsSet.Builder().issuer((String) plan.get("issuer")).build();
        var verifier = new DefaultJWTClaimsVerifier<>((String) plan.get("audience"), required, null);
        verifier.setMaxClockSkew(0);
        processor.setJWTClaimsSetVerifier(verifier);
        var told = new HashMap<String, Object>();
        for (Object one : (List<?>) plan.get("faults")) {
            var fault = (Map<String, Object>) one;
            var answer = HTTP.send(HttpRequest.newBuilder(URI.create(plan.get("base") + (String) fault.get("path"))).build(), BodyHandlers.ofString());
            var token = (String) JSONObjectUtils.parse(answer.body()).get("access_token");
            String reason;
            try {
                processor.process(token, null);
                reason = "accepted";
            } catch (Exception why) {
                reason = reason(why);
            }
            told.put((String) fault.get("name"), reason);
        }
        return Map.of("Nimbus JOSE", told);
    }

    /** Why Nimbus refuses a token, in words that all libraries share. */
    static String reason(Exception why) {
        var message = String.valueOf(why.getMessage());
        if (why instanceof java.text.ParseException) return "malformed";
        if (why instanceof com.nimbusds.jwt.proc.ExpiredJWTException) return "expired";
        if (message.contains("before use time")) return "not yet valid";
        if (message.contains("Invalid signature")) return "bad signature";
        if (message.contains("JWT audience") || message.contains("aud claim")) return "wrong audience";
        if (message.contains("iss claim")) return "wrong issuer";
        if (message.contains("Unsecured")) return "algorithm not allowed";
        // Nimbus looks for a key that fits both, and says no more.
        if (message.contains("Another algorithm expected, or no matching key")) return "no key of this algorithm and kid";
        return why.toString();
    }

    static Object parse(String text) {
        try {
            return text.startsWith("[") ? JSONArrayUtils.parse(text) : JSONObjectUtils.parse(text);
        } catch (java.text.ParseException why) {
            return text;
        }
    }

    @SuppressWarnings("unchecked")
    static void run(List<Map<String, Object>> steps) throws Exception {
        var held = new HashMap<String, String>();
        for (var step : steps) {
            var what = step.get("method") + " " + step.get("path");
            var body = (String) step.get("body");
            for (var one : held.entrySet()) {
                body = body.replace("{" + one.getKey() + "}", URLEncoder.encode(one.getValue(), StandardCharsets.UTF_8));
            }
            var publisher = body.isEmpty() ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofString(body);
            var request = HttpRequest.newBuilder(URI.create(plan.get("base") + (String) step.get("path")));
            request.method((String) step.get("method"), publisher);
            for (var field : ((Map<String, Object>) step.get("headers")).entrySet()) {
                request.header(field.getKey(), (String) field.getValue());
            }
            if ((Boolean) step.get("auth")) request.header("Authorization", "Bearer " + held.get("access_token"));
            var answer = HTTP.send(request.build(), BodyHandlers.ofString());
            REQUESTS.incrementAndGet();
            var got = parse(answer.body());
            var expected = step.get("expected");
            if (got instanceof Map && expected instanceof Map) {
                var object = (Map<String, Object>) got;
                for (Object name : (List<?>) plan.get("tokens")) {
                    if (!object.containsKey(name)) continue;
                    var token = (String) object.remove(name);
                    ((Map<String, Object>) expected).remove(name);
                    held.put((String) name, token);
                    try {
                        var subject = processor.process(token, null).getSubject();
                        if (!Objects.equals(subject, step.get("subject"))) throw new Exception("sub is " + subject);
                        VERIFIED.incrementAndGet();
                    } catch (Exception why) {
                        WRONG.add(what + ": Nimbus JOSE: " + why);
                    }
                }
            }
            var status = ((Number) step.get("status")).intValue();
            if (answer.statusCode() == status && Objects.equals(got, expected)) OWN.incrementAndGet();
            else WRONG.add(what + ": " + answer.statusCode() + " " + got + ", not " + status + " " + expected);
        }
    }
}

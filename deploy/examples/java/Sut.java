// A shop in Java that has its answers from an upstream, here a mock, and refuses tokens that Nimbus JOSE does not accept.
//
// UPSTREAM  URLs of the upstream, with commas between; asked in turn
// JWKS_URL  where the issuer publishes its keys
// PORT      where it listens; a free port by default

import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.jwk.source.JWKSourceBuilder;
import com.nimbusds.jose.proc.JWSVerificationKeySelector;
import com.nimbusds.jose.proc.SecurityContext;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.proc.DefaultJWTClaimsVerifier;
import com.nimbusds.jwt.proc.DefaultJWTProcessor;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.util.Locale;
import java.util.Set;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;

public class Sut {
    static final HttpClient HTTP = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    static final String[] UPSTREAMS = System.getenv("UPSTREAM").split(",");
    static final AtomicInteger TURN = new AtomicInteger();
    static final Set<String> NOT_PASSED_ON =
        Set.of("connection", "keep-alive", "transfer-encoding", "content-length", "date", "host", "upgrade", "expect");
    static final DefaultJWTProcessor<SecurityContext> PROCESSOR = new DefaultJWTProcessor<>();

    public static void main(String[] arguments) throws Exception {
        var keys = JWKSourceBuilder.create(new URI(System.getenv("JWKS_URL")).toURL()).rateLimited(false).build();
        var algorithms = Set.of(JWSAlgorithm.RS256, JWSAlgorithm.ES256);
        PROCESSOR.setJWSKeySelector(new JWSVerificationKeySelector<>(algorithms, keys));
        var expected = new JWTClaimsSet.Builder().issuer("https://shop.example").build();
        var verifier = new DefaultJWTClaimsVerifier<SecurityContext>("shop", expected, Set.of("sub", "exp"));
        verifier.setMaxClockSkew(0);
        PROCESSOR.setJWTClaimsSetVerifier(verifier);
        var port = System.getenv("PORT");
        var address = new InetSocketAddress(InetAddress.getLoopbackAddress(), port == null ? 0 : Integer.parseInt(port));
        var server = HttpServer.create(address, 0);
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", Sut::answer);
        server.start();
        System.out.println("sut listening on http://127.0.0.1:" + server.getAddress().getPort());
    }

    static void answer(HttpExchange exchange) throws IOException {
        try (exchange) {
            var body = exchange.getRequestBody().readAllBytes();
            var authorization = exchange.getRequestHeaders().getFirst("Authorization");
            if (authorization != null && authorization.startsWith("Bearer ")) {
                try {
                    PROCESSOR.process(authorization.substring("Bearer ".length()), null);
                } catch (Exception why) {
                    exchange.getResponseHeaders().set("Content-Type", "application/json");
                    send(exchange, 401, "{\"error\":\"the token is refused\"}".getBytes(StandardCharsets.UTF_8));
                    return;
                }
            }
            var upstream = UPSTREAMS[Math.floorMod(TURN.getAndIncrement(), UPSTREAMS.length)];
            var publisher = body.length == 0 ? BodyPublishers.noBody() : BodyPublishers.ofByteArray(body);
            var request = HttpRequest.newBuilder(URI.create(upstream + exchange.getRequestURI())).method(exchange.getRequestMethod(), publisher);
            exchange.getRequestHeaders().forEach((name, values) -> {
                if (!NOT_PASSED_ON.contains(name.toLowerCase(Locale.ROOT))) values.forEach(value -> request.header(name, value));
            });
            var told = HTTP.send(request.build(), BodyHandlers.ofByteArray());
            told.headers().map().forEach((name, values) -> {
                if (!NOT_PASSED_ON.contains(name.toLowerCase(Locale.ROOT))) exchange.getResponseHeaders().put(name, values);
            });
            send(exchange, told.statusCode(), told.body());
        } catch (InterruptedException why) {
            Thread.currentThread().interrupt();
        }
    }

    static void send(HttpExchange exchange, int status, byte[] body) throws IOException {
        exchange.sendResponseHeaders(status, body.length == 0 ? -1 : body.length);
        if (body.length > 0) exchange.getResponseBody().write(body);
    }
}

import java.io.InputStream;
import java.net.Authenticator;
import java.net.InetSocketAddress;
import java.net.PasswordAuthentication;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** One GET through the proxy in HTTPS_PROXY, trusting the CA in SSL_CERT_FILE and nothing else. */
class Probe {
    public static void main(String[] arguments) throws Exception {
        URI proxy = URI.create(System.getenv("HTTPS_PROXY"));
        String[] pair = proxy.getUserInfo().split(":");
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (InputStream file = Files.newInputStream(Path.of(System.getenv("SSL_CERT_FILE")))) {
            var ca = CertificateFactory.getInstance("X.509").generateCertificate(file);
            store.setCertificateEntry("keyward", ca);
        }
        var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext tls = SSLContext.getInstance("TLS");
        tls.init(null, trust.getTrustManagers(), null);
        var login = new Authenticator() {
            @Override
            protected PasswordAuthentication getPasswordAuthentication() {
                return new PasswordAuthentication(pair[0], pair[1].toCharArray());
            }
        };
        var at = new InetSocketAddress(proxy.getHost(), proxy.getPort());
        var client = HttpClient.newBuilder()
                .proxy(ProxySelector.of(at)).authenticator(login).sslContext(tls).build();
        var request = HttpRequest.newBuilder(URI.create(arguments[0]))
                .header("X-Api-Key", System.getenv("KEY")).build();
        var answer = client.send(request, BodyHandlers.ofString());
        System.out.println(answer.statusCode() + " " + answer.body());
        System.exit(answer.statusCode() == 200 ? 0 : 1);
    }
}

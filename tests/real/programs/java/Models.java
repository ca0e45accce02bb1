import java.net.Authenticator;
import java.net.PasswordAuthentication;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

/** Proxy and roots come from options; credentials for the proxy only from an Authenticator. */
class Models {
    public static void main(String[] arguments) throws Exception {
        String[] pair = URI.create(System.getenv("HTTPS_PROXY")).getUserInfo().split(":");
        var client = HttpClient.newBuilder().authenticator(new Authenticator() {
            @Override
            protected PasswordAuthentication getPasswordAuthentication() {
                return new PasswordAuthentication(pair[0], pair[1].toCharArray());
            }
        }).build();
        var request = HttpRequest.newBuilder(URI.create("https://api.openai.com/v1/models"))
                .header("Authorization", "Bearer " + System.getenv("OPENAI_API_KEY")).build();
        var body = client.send(request, BodyHandlers.ofString()).body();
        System.out.println("answer: " + body.replaceAll("(?s).*\"data\":\\[\\{\"id\":\"(\\w+)\".*", "$1"));
    }
}

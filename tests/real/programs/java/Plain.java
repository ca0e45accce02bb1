import java.net.HttpURLConnection;
import java.net.URI;
import java.net.URL;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

/** Both of Java's own clients, knowing nothing of a proxy. */
class Plain {
    static final String MODELS = "https://api.openai.com/v1/models";
    static final String BEARER = "Bearer " + System.getenv("OPENAI_API_KEY");

    public static void main(String[] arguments) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(MODELS)).header("Authorization", BEARER).build();
        String first = HttpClient.newHttpClient().send(request, BodyHandlers.ofString()).body();
        var connection = (HttpURLConnection) new URL(MODELS).openConnection();
        connection.setRequestProperty("Authorization", BEARER);
        String second = new String(connection.getInputStream().readAllBytes());
        if (!first.equals(second)) {
            throw new Exception(first + " is not " + second);
        }
        System.out.println("answer: " + first.replaceAll("(?s).*\"data\":\\[\\{\"id\":\"(\\w+)\".*", "$1"));
    }
}

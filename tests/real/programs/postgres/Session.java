// The JDBC driver of PostgreSQL: what applications do in a session, then what they are shown when they may not have one.

import java.io.StringReader;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import org.postgresql.PGConnection;

public class Session {
    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    static int number(ResultSet rows) throws SQLException {
        check(rows.next(), "a row");
        return rows.getInt(1);
    }

    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:postgresql://" + System.getenv("DATABASE_AT") + "/main?sslmode=disable";
        try (Connection session = DriverManager.getConnection(url, "main", System.getenv("TOKEN"))) {
            try (Statement statement = session.createStatement()) {
                statement.execute("CREATE TABLE from_java (a int, b text); INSERT INTO from_java VALUES (0, 'first')");
            }
            session.setAutoCommit(false);
            try (PreparedStatement insert = session.prepareStatement("INSERT INTO from_java VALUES (?, ?)")) {
                for (int row = 1; row < 5000; row++) {
                    insert.setInt(1, row);
                    insert.setString(2, "it's row " + row);
                    insert.addBatch();
                }
                check(insert.executeBatch().length == 4999, "a batch");
            }
            session.commit();
            // From the fifth use on, the statement is prepared at the server; rows come by a portal, in parts.
            try (PreparedStatement select = session.prepareStatement("SELECT a FROM from_java WHERE a >= ? ORDER BY a")) {
                select.setFetchSize(100);
                for (int use = 0; use < 8; use++) {
                    select.setInt(1, use);
                    try (ResultSet rows = select.executeQuery()) {
                        int expected = use;
                        while (rows.next()) check(rows.getInt(1) == expected++, "in order");
                        check(expected == 5000, "all rows");
                    }
                }
            }
            session.commit();
            session.setAutoCommit(true);
            long copied = session.unwrap(PGConnection.class).getCopyAPI()
                .copyIn("COPY from_java FROM STDIN (FORMAT csv)", new StringReader("5000,copied\n5001,copied\n"));
            check(copied == 2, "copied rows");
            try (Statement statement = session.createStatement()) {
                check(number(statement.executeQuery("SELECT count(*) FROM from_java")) == 5002, "count");
                // A cancel request comes by a stream of its own.
                statement.setQueryTimeout(3);
                try {
                    statement.execute("SELECT pg_sleep(600)");
                    throw new AssertionError("it was not cancelled");
                } catch (SQLException error) {
                    check("57014".equals(error.getSQLState()), error.toString());
                }
            }
            check(session.isValid(60), "it is valid");
        }
        try {
            DriverManager.getConnection(url, "main", "kwa_wrong");
        } catch (SQLException error) {
            System.out.println("refused: " + error.getSQLState() + " " + error.getMessage());
        }
        System.out.println("answer: fine");
    }
}

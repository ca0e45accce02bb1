//! The statements at SERIALIZABLE, as CockroachDB runs them: the database may refuse any of them with 40001 and expects
//! it again. In addition to the refusals by contention, a trigger refuses every fifth write.

use super::*;

conforms!(@together fresh());

const INJECTED: &str = "
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF random() < 0.2 THEN RAISE EXCEPTION 'injected' USING ERRCODE = '40001'; END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER refuse_rows AFTER INSERT OR UPDATE OR DELETE ON keyward_rows EXECUTE FUNCTION refuse();
CREATE TRIGGER refuse_leases AFTER INSERT OR UPDATE OR DELETE ON keyward_leases EXECUTE FUNCTION refuse();
";

async fn fresh() -> (&'static Server, PostgresStore) {
    let server = Server::shared();
    let database = server.database();
    let store = serializable(server, &database).await;
    server.sql(&database, INJECTED);
    (server, store)
}

async fn serializable(server: &Server, database: &str) -> PostgresStore {
    let mut settings = server.settings(database);
    settings.database.options("-c default_transaction_isolation=serializable");
    PostgresStore::open(settings).await.unwrap()
}

/// Without repetitions, the conformance tests would fail for an unclear reason.
#[tokio::test]
async fn a_statement_that_is_always_refused_is_an_error_and_writes_nothing() {
    let server = Server::shared();
    let database = server.database();
    let store = serializable(server, &database).await;
    let shown = store.pool.stream("ask").await.unwrap();
    let level = shown.query_one("SHOW transaction_isolation", &[]).await.unwrap();
    assert_eq!(level.get::<_, &str>(0), "serializable");
    drop(shown);
    server.sql(&database, &INJECTED.replace("random() < 0.2", "true"));
    let refused = store.put(Table::Agents, "o/a", b"x", Expect::Absent).await.unwrap_err();
    assert!(refused.to_string().contains("40001"), "{refused}");
    assert!(store.get(Table::Agents, "o/a").await.unwrap().is_none());
}

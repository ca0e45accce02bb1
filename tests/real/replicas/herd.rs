//! The crowd of refreshes after an absence of the database: each replica sends as many at a time to the authorization
//! server as its configuration permits.

use futures_util::future::join_all;

use super::*;

/// Connections whose token is needed, half of them at each replica.
const CONNECTIONS: usize = 12;

/// Of a replica.
const MAX: usize = 2;

/// The status of a request with one of the connections.
async fn ask_with(lab: &Lab, gateway: &Gateway, connection: usize) -> u16 {
    let mut wire = lab.client_at(gateway.proxy).await;
    let authorization = lab.authorization("ci");
    wire.send(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{authorization}\r\n"))
        .await;
    assert_eq!(wire.answer("CONNECT").await.head.status(), 200);
    let mut wire = lab.secure(wire, HOST).await;
    wire.send(request_text(&format!("GET /a\r\nKeyward-Connection: c{connection}"), HOST)).await;
    wire.answer("GET").await.head.status()
}

/// A gateway of the agent `ci` with these connections, each with a refresh token only.
fn plan(authorization: &Authorization) -> Plan {
    let first = refresh_only(authorization);
    let mut plan = plan_of(authorization, &first, &method("")).no_agents();
    for number in 0..CONNECTIONS {
        let token = Canary::of(refresh_only(authorization).refresh.expect("a refresh token"));
        let fields = format!("{{ refresh_token: {{ env: R{number} }} }}");
        plan = plan
            .connection(&format!("{{ name: c{number}, provider: acme, fields: {fields} }}"))
            .secret(&format!("R{number}"), &token);
    }
    let all: Vec<_> = (0..CONNECTIONS).map(|number| format!("c{number}")).collect();
    plan.agent("ci", &all.join(", ")).top(&format!(
        "oauth: {{ refreshes_per_server_max: {MAX}, backoff_first: 50ms, backoff_jitter_percent: 0, \
         circuit_failures_max: 1000000 }}"
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_of_the_database_each_replica_keeps_its_limit_of_refreshes() {
    let database = Database::start();
    let authorization = Authorization::with(rules()).await;
    let lab = database.under(plan(&authorization)).start(api(&authorization)).await;
    let mut other = lab.gateway.replica().await;
    let at = |connection: usize| [&lab.gateway, &other][connection % 2];
    database.server.stop();
    let cold = (0..CONNECTIONS).map(|connection| ask_with(&lab, at(connection), connection));
    assert_eq!(join_all(cold).await, [503; CONNECTIONS], "no refresh without the store");
    assert_eq!(authorization.calls().len(), 0);
    let gates: Vec<_> = (0..CONNECTIONS).map(|_| authorization.hold_next()).collect();
    database.server.run();
    let crowd = (0..CONNECTIONS).map(async |connection| {
        until(&format!("c{connection}"), async || {
            ask_with(&lab, at(connection), connection).await == 200
        })
        .await;
    });
    let released = async {
        // All that may be under way at once are.
        authorization.asked(2 * MAX).await;
        let mut most = 0;
        for (done, gate) in gates.iter().enumerate() {
            authorization.asked(done + 1).await;
            let under_way = authorization.calls().len() - done;
            assert!(under_way <= 2 * MAX, "{under_way} refreshes at once");
            most = most.max(under_way);
            gate.add_permits(1);
        }
        most
    };
    let (_, most) = tokio::join!(join_all(crowd), released);
    assert_eq!(most, 2 * MAX);
    assert_eq!(authorization.calls().len(), CONNECTIONS, "one refresh for each connection");
    other.stop().await;
    lab.finish().await;
}

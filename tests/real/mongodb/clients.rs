//! The usual clients: what applications do in a session, and what the clients show of a refusal.

use super::stage::Stage;
use crate::database_stage::Driver;
use crate::stage::{installed, run, said};

/// Runs the program with a valid URL and one with a wrong token.
async fn serve(interpreter: &str, script: &str, says: &[&str]) {
    let stage = Stage::new().await;
    let variables = [
        ("MONGODB_URI", stage.url(stage.lab.token("ci"), "main")),
        ("REFUSED_URL", stage.url("kwa_wrong", "main")),
    ];
    let variables = &variables;
    assert!(stage.serves(&Driver { interpreter, script, variables, says }).await >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pymongo_uses_a_database() {
    let says = ["topology: Sharded Single", "mechanism: "];
    serve("real-venv/bin/python", "mongodb/session.py", &says).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_driver_of_node_uses_a_database() {
    serve("real-node/node_modules/node24/bin/node", "mongodb/session.mjs", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mongosh_uses_a_database() {
    let stage = Stage::new().await;
    let evaluated = async |token: &str, script: &str| {
        let mut command = stage.command(installed("real-node/node_modules/node24/bin/node"));
        command.arg(installed("real-node/node_modules/mongosh/bin/mongosh.js"));
        command.args([&stage.url(token, "main"), "--quiet", "--norc", "--eval", script]);
        let text = said(&run(command).await);
        stage.password.assert_absent("what mongosh said", text.as_bytes());
        text
    };
    let token = stage.lab.token("ci");
    let script = "db.items.insertOne({ _id: 1 }); print(db.getName(), db.items.findOne()._id)";
    let text = evaluated(token, script).await;
    assert!(text.trim_end().ends_with("app 1"), "{text}");
    let text = evaluated(token, "db.adminCommand({ getParameter: '*' })").await;
    assert!(text.contains("keyward: getParameter is refused: it reads settings"), "{text}");
    let text = evaluated("kwa_wrong", "print(1)").await;
    assert!(text.contains("give the agent's token (kwa_…) as the password"), "{text}");
    stage.finish().await;
}

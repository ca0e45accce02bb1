//! Google's own clients in `keyward run`, which find a service account's key file whose key no service knows. Firestore's over
//! gRPC: a query, a transaction and a listener that stays open while the token is renewed. Clients of Cloud Storage request a
//! token with the file themselves.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use rcgen::{KeyPair, PKCS_RSA_SHA256};
use serde_json::{Value, json};

use crate::grpc::Server;
use crate::stage::{installed, run, said};
use test_support::authorization::{Authorization, Issuer};
use test_support::canary::Canary;
use test_support::install::{Install, Ran};
use test_support::tokens::rules;
use test_support::*;

const DOCUMENTS: &str = "firestore.googleapis.com";
const FILES: &str = "storage.googleapis.com";
const TOKENS: &str = "oauth2.googleapis.com";
const ROBOT: &str = "robot@project.iam.gserviceaccount.com";

const NODE: &str = "real-node/node_modules/node24/bin/node";
const PYTHON: &str = "real-venv/bin/python";

/// An installation whose agent `ci` may use one service of Google by its connection `main`, and the server of tokens.
struct Google {
    tokens: Authorization,
    install: Install,
    /// A line of the account's key.
    key: Canary,
}

impl Google {
    /// The service is at `at`.
    fn of(tokens: Authorization, provider: &str, host: &str, at: SocketAddr) -> Self {
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key").serialize_pem();
        let file = json!({ "type": "service_account", "private_key": key, "client_email": ROBOT });
        let field = "service_account: { env: ROBOT_FILE }";
        let plan = Plan::api_key().no_agents().agent("ci", "main").connection(&format!(
            "{{ name: main, provider: {provider}, auth: service_account, fields: {{ {field} }} }}"
        ));
        let places = [(TOKENS, tokens.addr()), (host, at)];
        let reach = |plan: Plan, (name, at): (&str, SocketAddr)| {
            plan.resolve(&format!("{name}: \"{at}\"")).allow(&at.to_string())
        };
        let plan = places.into_iter().fold(plan, reach);
        let install = Install::new(&plan, &Origin::saying("never"));
        let install = install.with_variable("ROBOT_FILE", &file.to_string());
        let folder = install.folder();
        std::os::unix::fs::symlink(
            installed("real-node/node_modules"),
            folder.join("node_modules"),
        )
        .expect("a link");
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/programs/firestore");
        for script in ["client.py", "client.mjs", "storage.py", "storage.mjs"] {
            std::fs::copy(scripts.join(script), folder.join(script)).expect("a file of ours");
        }
        let key = Canary::of(key.lines().nth(5).expect("a long key").to_owned());
        Self { tokens, install, key }
    }

    /// The tokens that the gateway got, in their order.
    fn issued(&self) -> Vec<String> {
        let calls = self.tokens.calls().into_iter();
        calls.map(|call| call.issued.expect("each call is answered").access).collect()
    }

    fn renew(&self) {
        let mut refresh = self.install.keyward(&["connection", "refresh", "main"]);
        let output = refresh.stdin(Stdio::null()).output().expect("it runs");
        assert!(output.status.success(), "{}", said(&output));
    }

    /// The program has neither the account's key nor a token.
    fn assert_kept(&self, said: &str) {
        self.key.assert_absent("what the program said", said.as_bytes());
        for token in self.issued() {
            let token = Canary::of(token);
            token.assert_absent("what the program said", said.as_bytes());
            token.assert_absent_below(self.install.folder());
        }
    }
}

/// The next line of the program is this one.
fn says(program: &mut Ran, wanted: &str) {
    let line = program.line();
    if line != wanted {
        drop(program.stdin.take());
        panic!("{line:?} instead of {wanted:?}: {}", program.said());
    }
}

/// What the server recorded up to its first call with `paths` of this document, this one included.
fn recorded(server: &Server, last: &str) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let record: Value = serde_json::from_str(&server.line()).expect("JSON");
        let is_last = record["paths"] == json!([last]);
        all.push(record);
        if is_last {
            return all;
        }
    }
}

/// A program of `client.py` or `client.mjs`: the token is renewed while it listens.
async fn documents_are_served(interpreter: &str, script: &str) {
    let server = Server::start(include_str!("programs/firestore/server.py"), DOCUMENTS, "");
    let at = SocketAddr::from(([127, 0, 0, 1], server.port));
    let tokens = Authorization::named(&[TOKENS], rules()).await;
    let google = Google::of(tokens, "firestore", DOCUMENTS, at);
    let _serving = google.install.serve();
    let interpreter = installed(interpreter);
    let interpreter = interpreter.to_str().expect("a path of letters");
    let mut program = google.install.run(&["--agent", "ci", "--", interpreter, script]);
    says(&mut program, "listens");
    google.renew();
    program.say("renewed");
    says(&mut program, "was told");
    program.say("again");
    let file = program.line();
    says(&mut program, "answer: fine");
    assert_eq!(program.code(), Some(0));
    google.assert_kept(&(file.clone() + &program.said()));
    let file: Value = serde_json::from_str(&file).expect("the key file");
    assert_eq!(file["client_email"], "keyward-placeholder@keyward.invalid");

    let issued = google.issued();
    assert_eq!(issued.len(), 2, "the first one, and the renewed one");
    let records = recorded(&server, "people/zoe");
    assert_tokens(&records, &issued);
    let of_commit = |it: &Value| it["path"] == "/google.firestore.v1.Firestore/Commit";
    let commits = || google.install.audit().into_iter().filter(of_commit).collect::<Vec<_>>();
    google.install.until("all commits are recorded", || commits().len() == 6);
    for commit in commits() {
        assert_eq!((&commit["connection"], &commit["status"]), (&json!("main"), &json!(200)));
        // What the client signed with the key of no service.
        assert_eq!(commit["own_authorization"], "replaced", "{commit}");
    }
}

/// Each call has one token: the first one until the renewal, and the second one from then on. The listener of before goes on.
fn assert_tokens(records: &[Value], issued: &[String]) {
    let [first, second] = [0, 1].map(|at| json!([format!("Bearer {}", issued[at])]));
    let at = |wanted: &Value| records.iter().position(|it| it == wanted);
    let of = |call: &'static str| records.iter().filter(move |it| it["call"] == call);
    let eve = records.iter().position(|it| it["paths"] == json!(["people/eve"])).expect("it is");
    for (number, record) in records.iter().enumerate().filter(|(_, it)| it["call"] != "told") {
        let wanted = if number < eve { &first } else { &second };
        assert_eq!(&record["fields"], wanted, "{record}");
    }
    let query = of("RunQuery").next().expect("a query");
    assert_eq!((&query["field"], &query["bound"]), (&json!("born"), &json!(1800)));
    assert!(of("Commit").any(|it| it["in_transaction"] == true), "{records:#?}");
    assert!(of("BatchGetDocuments").any(|it| it["in_transaction"] == true), "{records:#?}");
    let listeners: Vec<_> = of("Listen").collect();
    assert_eq!(listeners.len(), 2, "{listeners:#?}");
    let told = json!({ "call": "told", "listener": 1 });
    assert!(at(&told).is_some_and(|told| told < eve), "{records:#?}");
    let again = records.iter().skip(eve).position(|it| *it == told);
    assert!(again.is_some(), "the listener of before the renewal: {records:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn firestores_client_for_python_queries_writes_and_listens_over_a_renewal() {
    documents_are_served(PYTHON, "client.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn firestores_client_for_node_queries_writes_and_listens_over_a_renewal() {
    documents_are_served(NODE, "client.mjs").await;
}

/// What the service answers to a request with a live token: an object, or a list of objects.
fn files(request: &Message, issuer: &Issuer) -> String {
    let body = match request.head.target().starts_with("/download/") {
        true => "fine",
        false => r#"{"items":[{"name":"a.txt"}]}"#,
    };
    let answer = issuer.api(request, body);
    answer.replacen("\r\n", "\r\nContent-Type: application/json\r\n", 1)
}

/// A client that requests a token itself: the gateway gives it a placeholder, and the service gets the live token.
async fn files_are_served(
    interpreter: &str,
    arguments: &[&str],
    requested_at: &str,
    paths: &[&str],
) {
    // The service needs to know the tokens, and the installation where the service is.
    let tokens = Authorization::named(&[TOKENS], rules()).await;
    let issuer = tokens.issuer().clone();
    let origin = Origin::answering_as(&[FILES], move |request| files(request, &issuer));
    let google = Google::of(tokens, "google-cloud-storage", FILES, origin.addr);
    let interpreter = installed(interpreter);
    let interpreter = interpreter.to_str().expect("a path of letters");
    let mut command = google.install.keyward(&["run", "--agent", "ci", "--", interpreter]);
    command.args(arguments);
    let output = run(command).await;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let answered = stdout.lines().any(|line| line == "answer: fine");
    assert!(output.status.success() && answered, "{}", said(&output));
    google.install.until("the private gateway is gone", || !google.install.is_served());
    google.assert_kept(&said(&output));
    let received = origin.received();
    let path = |it: &Message| it.head.target().split('?').next().unwrap_or_default().to_owned();
    // A client may look at the bucket too.
    let asked: Vec<_> = received.iter().map(path).collect();
    assert!(paths.iter().all(|path| asked.iter().any(|it| it == path)), "{asked:?}");
    let issued = google.issued();
    let [token] = &issued[..] else { panic!("only the gateway has a token: {issued:?}") };
    for request in &received {
        assert_eq!(request.head.all("authorization"), [format!("Bearer {token}")]);
    }
    let audited = google.install.audit();
    let is_asked = |it: &&Value| it["target"] == format!("https://{requested_at}");
    let asked = audited.iter().find(is_asked).expect("a request for a token");
    assert_eq!((&asked["outcome"], &asked["attempts"]), (&json!("completed"), &json!(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cloud_storages_client_for_python_gets_its_token_here() {
    let paths = ["/storage/v1/b/files/o", "/download/storage/v1/b/files/o/a.txt"];
    files_are_served(PYTHON, &["storage.py"], TOKENS, &paths).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn googles_library_for_node_gets_its_token_here() {
    let arguments = ["storage.mjs", "google-auth-library"];
    files_are_served(NODE, &arguments, TOKENS, &["/storage/v1/b/files/o"]).await;
}

/// It requests its token at another address, whatever the file says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn googles_older_library_for_node_gets_its_token_here() {
    let arguments = ["storage.mjs", "google-auth-library-old"];
    files_are_served(NODE, &arguments, "www.googleapis.com", &["/storage/v1/b/files/o"]).await;
}

//! AWS signatures: programs sign with placeholder keys, and the server verifies with botocore's signer that what arrives
//! is signed with the live ones.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::stage::{installed, run, said, succeeded};
use test_support::canary::Canary;
use test_support::install::Install;
use test_support::pki::pki;
use test_support::process::OwnChild;
use test_support::*;

const HOSTS: [&str; 8] = [
    "s3.amazonaws.com",
    "photos.s3.amazonaws.com",
    "photos.s3.eu-west-1.amazonaws.com",
    "photos.s3.us-east-1.amazonaws.com",
    "sts.eu-west-1.amazonaws.com",
    "dynamodb.eu-west-1.amazonaws.com",
    "m1abc.mrap.accesspoint.s3-global.amazonaws.com",
    "abcde.veo.endpoint.events.amazonaws.com",
];

/// Storage and mail whose requests are signed as those of AWS: provider, its variables, host, region and service.
const STORES: [(&str, &str, &str, &str, &str); 6] = [
    ("amazon-ses", "", "email.us-east-1.amazonaws.com", "us-east-1", "ses"),
    ("backblaze-b2", B2, "s3.us-west-004.backblazeb2.com", "us-west-004", "s3"),
    ("backblaze-b2", B2, "photos.s3.us-west-004.backblazeb2.com", "us-west-004", "s3"),
    ("cloudflare-r2", R2, "0123456789abcdef.r2.cloudflarestorage.com", "auto", "s3"),
    ("cloudflare-r2", R2, "photos.0123456789abcdef.r2.cloudflarestorage.com", "auto", "s3"),
    ("s3-compatible", "host: minio.acme.test", "minio.acme.test", "eu-north-1", "s3"),
];
const B2: &str = "region: us-west-004";
const R2: &str = "account_id: \"0123456789abcdef\"";

/// The live id; the live key is the canary.
const KEY_ID: &str = "AKIAIOSFODNN7KEYWARD";

/// The server, and a user whose agent `ci` is bound to an AWS connection.
struct Aws {
    _server: OwnChild,
    install: Install,
    canary: Canary,
    folder: TempDir,
    _origin: Origin,
}

impl Aws {
    async fn new() -> Self {
        Self::connected(&format!(
            "access_key_id: {{ command: [echo, {KEY_ID}] }}, secret_access_key: {{ env: CANARY }}"
        ))
        .await
    }

    /// With these fields of the connection; those of a role name it.
    async fn connected(fields: &str) -> Self {
        let auth = match fields {
            _ if fields.contains("web_identity_token") => ", auth: web_identity",
            _ if fields.contains("role_arn") => ", auth: assume_role",
            _ => "",
        };
        let live = format!("{{ name: live, provider: aws{auth}, fields: {{ {fields} }} }}");
        Self::serving(|plan| plan.connection(&live).agent("ci", "live")).await
    }

    /// With an agent for each of the stores, named after the provider.
    async fn stores() -> Self {
        let connect = |plan: Plan| {
            let mut seen = Vec::new();
            STORES.iter().fold(plan, |plan, (provider, variables, _, region, _)| {
                if seen.contains(provider) {
                    return plan;
                }
                seen.push(provider);
                // One region is all that R2 has.
                let own = match *region {
                    "auto" => String::new(),
                    region => format!(", region: {{ command: [echo, {region}] }}"),
                };
                plan.agent(provider, provider).connection(&format!(
                    "{{ name: {provider}, provider: {provider}, variables: {{ {variables} }}, fields: {{ access_key_id: \
                     {{ command: [echo, {KEY_ID}] }}, secret_access_key: {{ env: CANARY }}{own} }} }}"
                ))
            })
        };
        Self::serving(connect).await
    }

    /// With these connections and agents. A source `pod` has the files of the server's folder.
    async fn serving(connections: impl FnOnce(Plan) -> Plan) -> Self {
        let folder = TempDir::new().expect("a directory");
        let pod = format!(
            "sources: [{{ name: pod, file: {{ folder: '{}' }} }}]",
            folder.path().display()
        );
        let plan = Plan::api_key().top(&pod);
        let canary = plan.canary().clone();
        let hosts: Vec<&str> = HOSTS.into_iter().chain(STORES.map(|store| store.2)).collect();
        let (certificate, key) = pki().pem(&hosts);
        std::fs::write(folder.path().join("certificate.pem"), certificate).expect("a file");
        std::fs::write(folder.path().join("key.pem"), key).expect("a file");
        let mut server = Command::new(installed("real-venv/bin/python"));
        server.arg(program("server.py")).args(["certificate.pem", "key.pem", "log"]);
        server.env("ACCESS_KEY", KEY_ID).env("SECRET_KEY", &canary.text);
        server.env("WEB_IDENTITY", "accepted");
        let server = server.current_dir(folder.path()).stdout(Stdio::piped()).spawn();
        let mut server = server.expect("`tests/run` installs Python");
        let mut port = String::new();
        let out = server.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut port).expect("the server says its port");
        let port = port.trim();
        let plan = hosts
            .iter()
            .fold(plan, |plan, host| plan.resolve(&format!("{host}: \"127.0.0.1:{port}\"")));
        let plan = connections(plan.allow(&format!("127.0.0.1/32:{port}")).no_agents());
        let origin = Origin::answering(|_: &Message| ok("nothing"));
        Self {
            install: Install::new(&plan, &origin),
            canary,
            folder,
            _server: OwnChild::from(server),
            _origin: origin,
        }
    }

    async fn python(&self, script: &str) -> Output {
        let mut command = self.install.keyward(&["run", "--agent", "ci", "--"]);
        command.arg(installed("real-venv/bin/python")).arg(program(script));
        run(command).await
    }

    async fn node(&self, script: &str) -> Output {
        let mut command = self.install.keyward(&["run", "--agent", "ci", "--"]);
        command.arg(installed("real-node/node_modules/node24/bin/node")).arg(program(script));
        command.env("NODE_MODULES", installed("real-node/node_modules"));
        run(command).await
    }

    /// Gives the token of the pod, and those that the server accepts.
    fn identify(&self, token: &Canary, accepted: &Canary) {
        for (name, token) in [("token", token), ("accepted", accepted)] {
            let path = self.folder.path().join(name);
            std::fs::write(&path, &token.text).expect("a file");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&path, mode).expect("it is ours");
        }
    }

    /// What the server received, and that the secret is nowhere else.
    fn received(&self, output: &Output) -> Vec<serde_json::Value> {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        for stands_for_it in ["kwph", "kwa_", &*self.canary.text] {
            assert!(!log.contains(stands_for_it), "{stands_for_it} arrived: {log}");
        }
        self.canary.assert_absent("what the program said", said(output).as_bytes());
        self.canary.assert_absent_below(self.install.folder());
        log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

fn program(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/real/programs/aws").join(name)
}

/// How often requests were signed in this way.
fn count(received: &[serde_json::Value], how: &str) -> usize {
    received.iter().filter(|request| request["how"] == how).count()
}

#[tokio::test]
async fn boto3_signs_with_placeholders_and_aws_accepts_all_of_it() {
    let aws = Aws::new().await;
    let output = aws.python("boto.py").await;
    let said = said(&output);
    assert!(output.status.success() && said.contains("answer: fine"), "{said}");
    assert_eq!(
        said.matches("refused: True").count(),
        2,
        "credentials stay with the gateway: {said}"
    );
    let received = aws.received(&output);
    assert_eq!(count(&received, "field") + count(&received, "query"), received.len(), "{said}");
    assert_eq!(count(&received, "query"), 1);
    let parts =
        received.iter().filter(|request| request["request"] == "PUT photos.s3.amazonaws.com/large");
    assert_eq!(parts.count(), 3);
    let sts =
        received.iter().filter(|request| request["request"] == "POST sts.eu-west-1.amazonaws.com/");
    assert_eq!(sts.count(), 1, "actions that answer with credentials are not sent");
}

#[tokio::test]
async fn storage_and_mail_that_sign_as_aws_does_get_the_live_keys_for_their_region_and_service() {
    let aws = Aws::stores().await;
    for (number, (provider, _, host, region, service)) in STORES.into_iter().enumerate() {
        let mut command = aws.install.keyward(&["run", "--agent", provider, "--"]);
        command.arg(installed("real-venv/bin/python")).arg(program("stores.py"));
        command.args([host, region, service]);
        for agent in STORES.map(|store| store.0) {
            let variable = format!("TOKEN_{}", agent.to_uppercase().replace('-', "_"));
            command.env(variable, format!("kwa_token-of-{agent}-in-these-tests"));
        }
        let output = run(command).await;
        let said = said(&output);
        let received = aws.received(&output);
        assert!(output.status.success() && said.contains("answer: fine"), "{said} {received:#?}");
        let own = &received[number * 4..];
        assert_eq!((own.len(), count(own, "query"), count(own, "field")), (4, 1, 3), "{own:#?}");
        let scope = format!("/{region}/{service}/aws4_request");
        for request in own.iter().filter(|request| request["how"] == "field") {
            let credential = request["fields"]["authorization"].as_str().expect("signed");
            assert!(credential.contains(&scope) && credential.contains(KEY_ID), "{credential}");
        }
    }
}

#[tokio::test]
async fn signed_chunks_are_signed_again_and_unsigned_requests_are_signed() {
    let aws = Aws::new().await;
    let output = aws.python("chunks.py").await;
    let said = said(&output);
    let received = aws.received(&output);
    assert!(output.status.success() && said.contains("answer: fine"), "{said} {received:#?}");
    assert_eq!(count(&received, "chunks"), 1, "{received:#?}");
    assert_eq!(count(&received, "field"), 2, "{received:#?}");
}

#[tokio::test]
async fn the_sdk_for_javascript_is_served_in_parts_presigned_and_for_several_regions() {
    let aws = Aws::new().await;
    let output = aws.node("sdk.mjs").await;
    let said = said(&output);
    let received = aws.received(&output);
    assert!(output.status.success() && said.contains("answer: fine"), "{said} {received:#?}");
    assert!(said.contains("refused: 403"), "credentials stay with the gateway: {said}");
    assert_eq!((count(&received, "query"), count(&received, "set")), (1, 2), "{received:#?}");
    assert_eq!(count(&received, "field") + 3, received.len(), "{received:#?}");
    let part = "PUT photos.s3.us-east-1.amazonaws.com/large";
    assert_eq!(received.iter().filter(|request| request["request"] == part).count(), 3);
    let sts =
        received.iter().filter(|request| request["request"] == "POST sts.eu-west-1.amazonaws.com/");
    assert_eq!(sts.count(), 1, "actions that answer with credentials are not sent");
}

#[tokio::test]
async fn requests_for_several_regions_are_signed_with_the_pair_of_the_live_keys() {
    let aws = Aws::new().await;
    let output = aws.python("regions.py").await;
    let said = said(&output);
    let received = aws.received(&output);
    assert!(output.status.success() && said.contains("answer: fine"), "{said} {received:#?}");
    assert_eq!((count(&received, "set"), count(&received, "set query")), (5, 1), "{received:#?}");
    assert_eq!((count(&received, "set chunks"), received.len()), (1, 7), "{received:#?}");
}

#[tokio::test]
async fn the_command_line_of_aws_copies_files_and_gets_its_caller_identity() {
    let aws = Aws::new().await;
    let line = "echo hello > file
        \"$1\" s3 mb s3://photos
        \"$1\" s3 cp file s3://photos/one.txt
        \"$1\" s3 cp s3://photos/one.txt -
        \"$1\" sts get-caller-identity --region eu-west-1";
    let mut command = aws.install.keyward(&["run", "--agent", "ci", "--", "sh", "-ec", line, "sh"]);
    command.arg(installed("real-venv/bin/aws"));
    command.env("AWS_DEFAULT_REGION", "us-east-1");
    let output = run(command).await;
    let said = said(&output);
    let received = aws.received(&output);
    assert!(output.status.success(), "{said} {received:#?}");
    assert!(said.contains("hello") && said.contains("\"Arn\""), "{said}");
    assert_eq!(count(&received, "field"), received.len(), "{received:#?}");
}

/// Many programs in Go have an HTTP client of their own, with which AWS's SDK refuses `AWS_CA_BUNDLE`.
#[tokio::test]
async fn rclone_copies_files_to_s3_and_back() {
    let aws = Aws::new().await;
    let line = "mkdir sent && echo hello > 'sent/a b+c'
        aws() { rclone --s3-provider AWS --s3-env-auth --s3-region us-east-1 \"$@\"; }
        aws mkdir :s3:photos
        aws copy sent :s3:photos/sent
        aws check sent :s3:photos/sent
        aws cat ':s3:photos/sent/a b+c'";
    let mut command = aws.install.keyward(&["run", "--agent", "ci", "--", "sh", "-ec", line]);
    command.env("RCLONE_CONFIG", "rclone.conf").env("RCLONE_LOW_LEVEL_RETRIES", "1");
    let output = run(command).await;
    let said = said(&output);
    let received = aws.received(&output);
    assert!(output.status.success(), "{said} {received:#?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n", "{said}");
    let upload = "PUT photos.s3.us-east-1.amazonaws.com/sent/a%20b%2Bc";
    assert!(received.iter().any(|request| request["request"] == upload), "{received:#?}");
    assert_eq!(count(&received, "field"), received.len(), "{received:#?}");
}

/// A connection of a role.
fn role() -> String {
    format!(
        "source_access_key_id: {{ command: [echo, {KEY_ID}] }}, source_secret_access_key: {{ env: CANARY }}, \
         role_arn: {{ command: [echo, \"arn:aws:iam::123456789012:role/deploy\"] }}, external_id: {{ command: [echo, ext-7] }}, \
         session_name: {{ command: [echo, agents] }}, duration: {{ command: [echo, \"900\"] }}, \
         region: {{ command: [echo, eu-west-1] }}"
    )
}

#[tokio::test]
async fn the_session_of_a_role_signs_all_requests_and_is_kept_over_restarts() {
    let aws = Aws::connected(&role()).await;
    for _ in 0..2 {
        let output = aws.python("roles.py").await;
        let said = said(&output);
        let received = aws.received(&output);
        assert!(output.status.success() && said.contains("answer: fine"), "{said} {received:#?}");
        assert!(said.contains("refused: True"), "credentials stay with the gateway: {said}");
        assert!(said.contains("assumed-role/deploy/agents"), "{said}");
        // Each run has a gateway of its own, which keeps the session in its store.
        let assumed: Vec<_> =
            received.iter().filter(|request| request.get("assumes").is_some()).collect();
        assert_eq!(assumed.len(), 1, "{received:#?}");
        let asked = &assumed[0]["assumes"];
        assert_eq!(asked["RoleArn"], "arn:aws:iam::123456789012:role/deploy");
        assert_eq!(
            (&asked["ExternalId"], &asked["RoleSessionName"], &asked["DurationSeconds"]),
            (&"ext-7".into(), &"agents".into(), &"900".into())
        );
        let others = received.iter().filter(|request| request.get("assumes").is_none());
        for request in others {
            assert_eq!(request["how"], "field", "{request}");
            let credential = request["fields"]["authorization"].as_str().expect("signed");
            assert!(credential.contains("Credential=ASIA"), "signed by the role: {credential}");
        }
    }
}

#[tokio::test]
async fn a_role_that_its_owner_may_not_assume_marks_the_connection_broken() {
    let fields = role().replace(KEY_ID, "AKIAIOSFODNN7UNKNOWN");
    let aws = Aws::connected(&fields).await;
    let output = aws.python("roles.py").await;
    let said = said(&output);
    assert!(!output.status.success() && !said.contains("answer: fine"), "{said}");
    let received = aws.received(&output);
    assert!(received.iter().all(|request| request.get("assumes").is_some()), "{received:#?}");
    assert_eq!(received.len(), 1, "it is not tried again");
    let shown = aws.install.keyward(&["connection", "show", "live", "--json"]).output();
    let shown: serde_json::Value =
        serde_json::from_slice(&shown.expect("it runs").stdout).expect("JSON");
    assert_eq!(shown["state"], "broken", "{shown}");
    assert!(shown.to_string().contains("InvalidClientTokenId"), "{shown}");
}

/// The role, by a token of the source.
const IDENTITY: &str = "role_arn: { command: [echo, \"arn:aws:iam::123456789012:role/deploy\"] }, \
    session_name: { command: [echo, agents] }, region: { command: [echo, eu-west-1] }, \
    web_identity_token: { from: pod, ref: token }";

#[tokio::test]
async fn a_role_is_assumed_with_the_token_of_a_source_and_one_session_serves_a_run() {
    let (old, token) = (Canary::new("eyJ"), Canary::new("eyJ"));
    let aws = Aws::connected(IDENTITY).await;
    aws.identify(&old, &token);
    let output = aws.python("roles.py").await;
    let text = said(&output);
    assert!(!output.status.success() && !text.contains("answer: fine"), "{text}");
    let received = aws.received(&output);
    assert_eq!(received.len(), 1, "a token that STS rejects is not sent again: {received:#?}");
    let shown = aws.install.keyward(&["connection", "show", "live", "--json"]).output();
    let shown: serde_json::Value =
        serde_json::from_slice(&shown.expect("it runs").stdout).expect("JSON");
    assert_eq!(shown["state"], "active", "the source will have another token: {shown}");

    aws.identify(&token, &token);
    let renewed = succeeded(aws.install.keyward(&["connection", "refresh", "live"])).await;
    let received = aws.received(&renewed);
    assert_eq!(count(&received, "identity"), 1, "{} {received:#?}", said(&renewed));
    // One session for all requests, also of the next gateways: they read the file again, and find the same token.
    for _ in 0..2 {
        let output = aws.python("roles.py").await;
        let text = said(&output);
        let received = aws.received(&output);
        assert!(output.status.success() && text.contains("answer: fine"), "{text} {received:#?}");
        assert!(text.contains("assumed-role/deploy/agents"), "{text}");
        assert!(text.contains("refused: True"), "credentials stay with the gateway: {text}");
        assert_eq!(count(&received, "identity"), 1, "{received:#?}");
        for request in received.iter().filter(|request| request["how"] == "field") {
            let credential = request["fields"]["authorization"].as_str().expect("signed");
            assert!(credential.contains("Credential=ASIA"), "signed by the role: {credential}");
        }
        for value in [&old, &token] {
            value.assert_absent("what the program said", text.as_bytes());
            value.assert_absent_below(aws.install.folder());
        }
    }
    // A value that expires is not stored as if it would last.
    let mut added = aws.install.keyward(&["connection", "add", "aws", "--auth", "web_identity"]);
    added.args(["--name", "second", "--no-test", "--secret-env", "web_identity_token=CANARY"]);
    added.args(["--field", "role_arn=arn:aws:iam::123456789012:role/deploy"]);
    let refused = run(added).await;
    assert!(!refused.status.success(), "{}", said(&refused));
    assert!(said(&refused).contains("must come from a secret source"), "{}", said(&refused));
}

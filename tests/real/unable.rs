//! Programs that cannot authenticate to a proxy, in a run: their agent has its own listener, which identifies it.

use crate::api::OPENAI;
use crate::packages::MAVEN;
use crate::served::{Program, Service, Stage};
use crate::stage::{run, said};
use test_support::process::reserved_address;

/// A stage whose agent has a listener, and where that is.
async fn stage(service: &Service) -> (Stage, std::net::SocketAddr) {
    let at = reserved_address();
    let listener = format!("agents: [{{ agent: ci, at: \"{at}\", unsafe_no_auth: true }}]");
    let stage = Stage::answering(service, service.answer, |plan| plan.listen(&listener));
    (stage.await, at)
}

#[tokio::test]
async fn java_s_own_clients_are_served_without_an_authenticator_or_an_option() {
    let (stage, _) = stage(&OPENAI).await;
    let java = Program::of(&["java", "Plain.java"]).with("java/Plain.java");
    let output = run(stage.command(&java)).await;
    stage.assert_served(&output, &["GET /v1/models", "GET /v1/models"]);
}

/// Java's home is that of the user's entry, not of the variable. Maven colours what it does not print.
const MVN: &str = "
mvn --batch-mode --quiet -Dmaven.repo.local=repo validate >&2
python3 -m zipfile -e repo/com/acme/fine/1.0.0/fine-1.0.0.jar got
echo \"answer: $(cat got/word.txt)\"";

#[tokio::test]
async fn maven_is_served() {
    let (stage, _) = stage(&MAVEN).await;
    let output = run(stage.command(&Program::shell(MVN).with("maven"))).await;
    // An extension gets plexus-utils from Maven itself.
    let of = |at: &str, kinds: &[&str]| {
        let sums = kinds.iter().flat_map(|kind| [(*kind).to_owned(), format!("{kind}.sha1")]);
        sums.map(|kind| format!("GET /repo/{at}.{kind}")).collect::<Vec<_>>()
    };
    let all = [
        of("com/acme/fine/1.0.0/fine-1.0.0", &["jar", "pom"]),
        of("com/acme/parent/1.0.0/parent-1.0.0", &["pom"]),
        of("org/codehaus/plexus/plexus-utils/1.1/plexus-utils-1.1", &["jar"]),
    ];
    let all = all.concat();
    stage.assert_served(&output, &all.iter().map(String::as_str).collect::<Vec<_>>());
}

/// Its scripts reach into Java, which Java 17 has to be told of.
const GRADLE: &str = "
mkdir home
echo 'org.gradle.jvmargs=--add-opens java.base/java.lang=ALL-UNNAMED' > home/gradle.properties
gradle --gradle-user-home home --quiet show";

#[tokio::test]
async fn gradle_is_served() {
    let (stage, _) = stage(&MAVEN).await;
    let output = run(stage.command(&Program::shell(GRADLE).with("gradle"))).await;
    let requests =
        ["jar", "pom"].map(|kind| format!("GET /repo/com/acme/fine/1.0.0/fine-1.0.0.{kind}"));
    stage.assert_served(&output, &requests.each_ref().map(String::as_str));
}

#[tokio::test]
async fn java_without_a_listener_of_its_agent_gets_a_407() {
    let stage = Stage::of(&OPENAI).await;
    let java = Program::of(&["java", "Plain.java"]).with("java/Plain.java");
    let output = run(stage.command(&java)).await;
    assert!(!output.status.success() && said(&output).contains("407"), "{}", said(&output));
    assert_eq!(stage.origin.received().len(), 0);
}

/// What a user does once, and what Chromium takes of a proxy.
const CHROMIUM: &str = "
mkdir -p .pki/nssdb
certutil -d sql:.pki/nssdb -N --empty-password
certutil -d sql:.pki/nssdb -A -t C,, -n keyward -i \"$NODE_EXTRA_CA_CERTS\"
chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \\
    --disable-background-networking --user-data-dir=profile --proxy-server=\"http://$1\" \\
    --dump-dom https://api.openai.com/v1/models > page
grep -o '\"id\":\"fine\"' page
echo 'answer: fine'";

#[tokio::test]
async fn chromium_is_served() {
    let (stage, at) = stage(&OPENAI).await;
    let chromium = Program::shell(CHROMIUM).argument(&at.to_string());
    let output = run(stage.command(&chromium)).await;
    stage.assert_served(&output, &["GET /v1/models"]);
}

//! The page of errors, and the links to it in the bodies of refusals.

use keyward_base::codes::Code;

use test_support::cli::Cli;
use test_support::http2::{Offer, Reply};
use test_support::*;

async fn page(lab: &Lab, path: &str, host: &str) -> Message {
    let at = lab.gateway.admin;
    let mut wire = Wire::to(at).await;
    wire.ask(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
}

/// The link in a body.
fn docs(answer: &Message) -> Option<String> {
    answer.json()["error"]["docs"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn an_unauthenticated_client_and_another_site_get_no_link() {
    let lab = Lab::simple().await;
    let mut wire = lab.client().await;
    let answer = wire.ask(format!("GET http://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    assert_eq!((answer.head.status(), docs(&answer)), (407, None), "{}", answer.text());
    let answer = page(&lab, "/nothing", "evil.example").await;
    assert_eq!((answer.head.status(), docs(&answer)), (421, None), "{}", answer.text());
    assert!(!answer.text().contains("localhost"), "{}", answer.text());
    lab.finish().await;
}

#[tokio::test]
async fn a_refused_connect_and_a_refused_grpc_call_have_no_link() {
    let lab = Plan::api_key()
        .rule("{ hosts: [other.acme.test], action: deny }")
        .start(Origin::saying("never"))
        .await;
    let (answer, _) = lab.connect("nowhere.test:443").await;
    assert_eq!((answer.head.status(), docs(&answer)), (403, None), "{}", answer.text());
    let mut wire = lab.tunnel(STRANGER).await;
    let call = "POST /a\r\nContent-Type: application/grpc\r\nContent-Length: 0";
    let answer = wire.ask(request_text(call, STRANGER)).await;
    assert!(!answer.head.one("grpc-message").expect("words").contains("errors#"));
    lab.finish().await;
}

#[tokio::test]
async fn a_refusal_links_to_the_section_about_its_code() {
    let plan = Plan::api_key().rule("{ hosts: [api.acme.test], methods: [DELETE], action: deny }");
    let lab = plan.start(Origin::speaking(Offer::Both, |_| Reply::ok("fine"))).await;
    let base = format!("http://localhost:{}", lab.gateway.admin.port());
    let link = format!("{base}/errors#denied");
    assert_eq!(docs(&lab.ask("DELETE /a").await).as_deref(), Some(&*link));
    assert_eq!(docs(&lab.h2(HOST).await.ask("DELETE /a").await).as_deref(), Some(&*link));
    let missing = lab.gateway.api("GET", "/agents/missing", "").await;
    assert_eq!(docs(&missing), Some(format!("{base}/errors#not_found")));
    let own = lab.gateway.admin.to_string();
    let missing = page(&lab, "/nothing", &own).await;
    assert_eq!(docs(&missing), Some(format!("{base}/errors#not_found")), "{}", missing.text());
    let shown = page(&lab, "/errors", &own).await;
    assert!(shown.text().contains(r#"<h2 id="denied">"#), "{}", shown.text());
    lab.finish().await;
}

#[tokio::test]
async fn a_configured_public_url_is_the_base_of_the_links() {
    let plan = Plan::api_key().top("public_url: https://kw.example.com/keyward/");
    let plan = plan.rule("{ hosts: [api.acme.test], action: deny }");
    let lab = plan.start(Origin::saying("never")).await;
    let link = docs(&lab.ask("GET /a").await);
    assert_eq!(link.as_deref(), Some("https://kw.example.com/keyward/errors#denied"));
    let missing = lab.gateway.api("GET", "/agents/missing", "").await;
    let link = docs(&missing);
    assert_eq!(link.as_deref(), Some("https://kw.example.com/keyward/errors#not_found"));
    lab.finish().await;
}

#[tokio::test]
async fn the_page_has_each_code_once_with_its_status_and_nothing_of_the_installation() {
    let lab =
        Plan::api_key().agent("a-secretive-agent", "acme").start(Origin::saying("fine")).await;
    let answer = page(&lab, "/errors", &lab.gateway.admin.to_string()).await;
    let policy = answer.head.one("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let text = answer.text();
    for code in Code::ALL {
        assert_eq!(text.matches(&format!("id=\"{code}\"")).count(), 1, "{code}");
        let status = format!("<dd>{}, sent by ", code.row().status);
        assert!(text.contains(&status), "{status}");
    }
    let folder = lab.gateway.folder().display().to_string();
    for private in ["a-secretive-agent", "acme", "localhost", &folder, "]("] {
        assert!(!text.contains(private), "{private}");
    }
    lab.finish().await;
}

#[test]
fn errors_of_the_command_line_have_the_link_where_a_gateway_answers() {
    let cli = Cli::new();
    let error = |words: &[&str]| -> serde_json::Value {
        serde_json::from_str(&cli.run(words).failed(5)).expect("JSON")
    };
    cli.run(&["agent", "add", "ci"]).ok();
    let alone = error(&["agent", "show", "cj", "--json"]);
    assert_eq!((&alone["error"]["code"], alone["error"].get("docs")), (&"not_found".into(), None));
    let serving = cli.serve();
    let told = error(&["agent", "show", "cj", "--json"]);
    let docs = told["error"]["docs"].as_str().expect("a link");
    assert!(docs.starts_with("http://localhost:") && docs.ends_with("/errors#not_found"), "{docs}");
    serving.kill();
}

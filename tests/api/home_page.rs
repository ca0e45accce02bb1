//! `GET /ca` of the admin listener: the page of the gateway, which everybody may read.

use test_support::*;

async fn ask(lab: &Lab, line: &str, host: &str) -> Message {
    let at = lab.gateway.admin;
    let mut wire = Wire::to(at).await;
    let method = line.split(' ').next().expect("a method");
    wire.send(format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
    wire.answer(method).await
}

#[tokio::test]
async fn the_ca_page_refuses_foreign_host_names_and_writing_methods() {
    let lab = Lab::simple().await;
    let own = lab.gateway.admin.to_string();
    for foreign in ["evil.example", "evil.example:8081", "localhost"] {
        let answer = ask(&lab, "GET /ca", foreign).await;
        assert_eq!(answer.head.status(), 421, "{foreign}");
        assert!(!answer.text().contains("<html"), "{}", answer.text());
    }
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(ask(&lab, &format!("{method} /ca"), &own).await.head.status(), 405, "{method}");
    }
    assert_eq!(ask(&lab, "GET /index.html", &own).await.head.status(), 404);
    lab.finish().await;
}

/// A browser that shows JSON leaves its user without a way on.
#[tokio::test]
async fn an_unknown_path_answers_404_as_html_to_a_browser_and_as_json_to_a_program() {
    let lab = Lab::simple().await;
    let own = lab.gateway.admin.to_string();
    let accepting = |kinds: &str| format!("{own}\r\nAccept: {kinds}");
    for program in ["*/*", "application/json"] {
        let answer = ask(&lab, "GET /nothing", &accepting(program)).await;
        assert_eq!(answer.head.status(), 404, "{program}");
        assert_eq!(answer.json()["error"]["code"], "not_found", "{program}");
    }
    let browser = accepting("text/html,application/xhtml+xml,*/*;q=0.8");
    let page = ask(&lab, "GET /nothing", &browser).await.is(404);
    assert_eq!(page.head.one("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.head.one("content-security-policy").expect("a policy");
    assert!(policy.contains("style-src 'self'"), "{policy}");
    assert!(page.text().contains("There is nothing at this address."), "{}", page.text());
    ask(&lab, "GET /nothing", "evil.example\r\nAccept: text/html").await.is(421);
    lab.finish().await;
}

#[tokio::test]
async fn the_page_names_no_agent_no_connection_and_no_file() {
    let lab = Plan::api_key()
        .agent("a-secretive-agent", "acme")
        .proxy("[\"127.0.0.1:0\", \"unix:hidden.sock\"]")
        .start(Origin::saying("fine"))
        .await;
    let page = ask(&lab, "GET /ca", &lab.gateway.admin.to_string()).await.text();
    let folder = lab.gateway.folder().display().to_string();
    for private in ["a-secretive-agent", "acme", "hidden.sock", &folder] {
        assert!(!page.contains(private), "{private}: {page}");
    }
    assert!(page.contains(&format!("http://{}", lab.gateway.proxy)), "{page}");
    lab.finish().await;
}

#[tokio::test]
async fn the_page_shows_the_ca_and_how_to_trust_it_without_scripts() {
    let lab = Lab::simple().await;
    let own = lab.gateway.admin.to_string();
    let answer = ask(&lab, "GET /ca", &own).await.is(200);
    assert_eq!(answer.head.one("content-type"), Some("text/html; charset=utf-8"));
    let policy = answer.head.one("content-security-policy").expect("a policy").to_owned();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert_eq!(answer.head.one("x-content-type-options"), Some("nosniff"));
    let page = answer.text();
    assert!(!page.contains("<script") && !page.contains(" style="), "{page}");
    let fingerprint = lab.gateway.running().services().authority.fingerprint();
    for part in [
        "<title>Keyward</title>",
        ">ready<",
        env!("CARGO_PKG_VERSION"),
        &fingerprint,
        "href=\"/ca.pem\"",
        "href=\"/ca.crt\"",
        "href=\"/bundle.pem\"",
        "update-ca-certificates",
        "update-ca-trust",
        "security add-trusted-cert",
        "Import-Certificate",
        "certutil -d",
        "keytool",
        "NODE_EXTRA_CA_CERTS",
        &format!("curl -fo keyward.pem http://{own}/ca.pem"),
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let head = ask(&lab, "HEAD /ca", &own).await;
    assert_eq!((head.head.status(), head.text().as_str()), (200, ""));
    lab.finish().await;
}

#[tokio::test]
async fn the_certificate_is_served_in_der_too() {
    let lab = Lab::simple().await;
    let answer = ask(&lab, "GET /ca.crt", &lab.gateway.admin.to_string()).await;
    assert_eq!(answer.head.one("content-type"), Some("application/pkix-cert"));
    let der = lab.gateway.running().services().authority.cert_der();
    assert_eq!(answer.body, der.as_ref(), "the certificate that signs");
    lab.finish().await;
}

//! Documents of both standards, captured requests, and hostile ones of each.

use super::*;

fn yaml(text: &str) -> String {
    let (_, yaml) = learned("api", text).unwrap_or_else(|failure| panic!("{failure}"));
    check::file("api", &yaml, &Catalogue::built_in()).expect("it passes");
    yaml
}

fn refused(text: &str) -> String {
    learned("api", text).map(|_| ()).unwrap_err().to_string()
}

fn has(yaml: &str, lines: &[&str]) {
    for line in lines {
        assert!(yaml.lines().any(|it| it.trim() == *line), "{line}: {yaml}");
    }
}

#[test]
fn an_unusable_document_is_refused_with_a_reason_and_without_its_text() {
    for (text, says) in [
        ("", "no OpenAPI document"),
        ("{\n\"canary\": }", "api:2: this is no JSON"),
        ("a: 1\nb: [canary", "api:"),
        ("swagger: '1.2'", "no OpenAPI document"),
        ("openapi: 3.1.0\ninfo: { title: A }", "`servers` names no https host"),
        (
            "openapi: 3.1.0\nservers: [{ url: 'http://a.test' }, { url: /v1 }, { url: 'https://127.0.0.1/' }]",
            "names no https host",
        ),
        (
            "{\"log\": {\"entries\": [{\"request\": {\"url\": \"canary\"}}]}}",
            "the request is no https request",
        ),
        ("{\"log\": {}}", "no request with a URL"),
        (
            "{\"log\": {\"entries\": [{\"request\": {\"url\": \"https://a.test/\"}}, {\"request\": {\"url\": \"https://b.test/\"}}]}}",
            "several hosts",
        ),
    ] {
        let said = refused(text);
        assert!(said.contains(says) && !said.contains("canary"), "{text}: {said}");
    }
}

#[test]
fn a_document_of_openapi_3_becomes_a_provider() {
    let found = yaml(
        r#"
openapi: 3.1.0
info: { title: "Acme Billing API", contact: { url: "https://acme.test/docs" } }
servers:
  - { url: "https://{region}.acme.test/v2", variables: { region: { enum: [eu, us], default: eu } } }
  - { url: "http://localhost:8080" }
security: []
components:
  securitySchemes:
    Bearer Auth: { type: http, scheme: Bearer }
    login: { type: http, scheme: basic }
    header_key: { type: apiKey, in: header, name: X-Acme-Key }
    old: { type: oauth2, flows: { implicit: { authorizationUrl: "https://acme.test/a", scopes: {} } } }
    consent:
      type: oauth2
      flows:
        authorizationCode: { authorizationUrl: "https://acme.test/auth", tokenUrl: /oauth/token, scopes: { "bills:read": "Read\nbills # all" } }
        clientCredentials: { tokenUrl: "https://acme.test/token", scopes: {} }
paths:
  /me: { get: { tags: [Account], responses: { 200: { description: fine } } } }
  "/bills/{id}": { get: { tags: [Bills] }, delete: { tags: [Bills] } }
"#,
    );
    has(
        &found,
        &[
            "id: \"acme-billing\"",
            "hosts: [\"{region}.acme.test\"]",
            "- { name: region, choices: [\"eu\", \"us\"], default: \"eu\" }",
            "- id: bearer_auth",
            "env: [ACME_BILLING_TOKEN]",
            "placement: { header: \"X-Acme-Key\" }",
            "authorize: \"https://acme.test/auth\"",
            "token: \"https://{region}.acme.test/oauth/token\"",
            "#   bills:read",
            "scope_words:",
            "\"bills:read\": \"Read bills # all\"",
            "grant: client_credentials",
            "test: { method: GET, url: \"https://{region}.acme.test/v2/me\", expect_status: 200 }",
            "docs_url: \"https://acme.test/docs\"",
            "- name: read-bills",
            "- \"/v2/bills/*\"",
            "- methods: [DELETE]",
        ],
    );
}

#[test]
fn a_document_of_swagger_2_becomes_a_provider() {
    let found = yaml(
        r#"{"swagger": "2.0", "info": {"title": "9 Lives"}, "host": "api.lives.test", "basePath": "/v1",
            "securityDefinitions": {"q": {"type": "apiKey", "in": "query", "name": "key"},
            "o": {"type": "oauth2", "flow": "accessCode", "authorizationUrl": "https://lives.test/a", "tokenUrl": "https://lives.test/t", "scopes": {"a": "All"}}}}"#,
    );
    has(
        &found,
        &[
            "id: \"9-lives\"",
            "hosts: [\"api.lives.test\"]",
            "placement: { query: \"key\" }",
            "token: \"https://lives.test/t\"",
        ],
    );
}

#[test]
fn a_hostile_document_adds_no_lines_to_the_provider_or_is_refused() {
    let evil = "x\\nauth: []\\n# ";
    let found = yaml(&format!(
        r#"{{"openapi": "3.0.0", "info": {{"title": "{evil}"}}, "servers": [{{"url": "https://a.test/{evil}"}}, {{"url": "https://b.test"}}],
            "externalDocs": {{"url": "https://a.test/{evil}"}},
            "components": {{"securitySchemes": {{"{evil}": {{"type": "apiKey", "in": "header", "name": "{evil}"}}, "k": {{"type": "http", "scheme": "bearer"}}, "m": [], "n": 7,
            "o": {{"type": "oauth2", "flows": {{"authorizationCode": {{"authorizationUrl": "https://a.test/{evil}", "tokenUrl": "https://a.test/t", "scopes": {{"{evil}": "{evil}"}}}}}}}}}}}},
            "paths": {{"/{evil}": {{"get": {{"tags": ["{evil}"]}}}}, "/a/../b": {{"get": {{"tags": [7]}}}}, "/c": 1}}}}"#
    ));
    assert_eq!(found.lines().filter(|line| line.starts_with("auth:")).count(), 1, "{found}");
    // Values that are another type than the standard says.
    for text in [
        r#"{"openapi": "3.0.0", "info": 7, "servers": {"url": 1}}"#,
        r#"{"openapi": "3.0.0", "servers": [[], 7, {"url": []}], "paths": []}"#,
        r#"{"openapi": 3}"#,
    ] {
        refused(text);
    }
    let deep = format!("{{\"openapi\": {}1{}", "[".repeat(5_000), "]".repeat(5_000));
    assert!(refused(&deep).contains("this is no JSON"));
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
    refused(bomb);
}

#[test]
fn a_captured_request_gives_names_and_no_values() {
    let har = |headers: &str, query: &str, url: &str| {
        format!(
            r#"{{"log": {{"version": "1.2", "entries": [{{"request": {{"method": "GET", "url": "{url}", "headers": [{headers}], "queryString": [{query}]}}}}]}}}}"#
        )
    };
    let header = |name: &str, value: &str| format!(r#"{{"name": "{name}", "value": "{value}"}}"#);
    for (headers, query, line) in [
        (header("Authorization", "Bearer canary"), String::new(), "kind: bearer"),
        (header("authorization", "Basic Y2FuYXJ5"), String::new(), "kind: basic"),
        (
            header("Authorization", "canary"),
            String::new(),
            "placement: { header: Authorization }    # with a word before the key, if it has one",
        ),
        (
            header("Authorization", "Token canary"),
            String::new(),
            "placement: { header: Authorization, value: \"Token {api_key}\" }",
        ),
        (header("X-Api-Key", "canary"), String::new(), "placement: { header: \"X-Api-Key\" }"),
        (header("Accept", "x"), header("api_key", "canary"), "placement: { query: \"api_key\" }"),
        (header(":authority", "api.acme.test"), String::new(), "kind: bearer"),
    ] {
        let found = yaml(&har(&headers, &query, "https://api.acme.test/v1/me?api_key=canary"));
        assert!(!found.contains("canary") && !found.contains("Y2FuYXJ5"), "{found}");
        has(&found, &["hosts: [\"api.acme.test\"]", "id: \"acme\"", line]);
        has(
            &found,
            &["test: { method: GET, url: \"https://api.acme.test/v1/me\", expect_status: 200 }"],
        );
    }
    for path in ["/bot12345:canary/me", "/u/canarycanarycanarycanary", "/CANARY", "/a/123456"] {
        let found = yaml(&har("", "", &format!("https://api.acme.test{path}")));
        assert!(!found.to_lowercase().contains("canary") && !found.contains("12345"), "{found}");
        assert!(!found.contains("\ntest:"), "{found}");
    }
}

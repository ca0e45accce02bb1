//! Hostile targets: what is no single host and port is refused, what only looks like the bound host
//! gets nothing, and the bound host in another spelling is still one host.

use test_support::*;

/// No host and port, or more than one reading of them: 400.
const REFUSED: &[&str] = &[
    // User information.
    "user@api.acme.test:443",
    "user:pass@api.acme.test:443",
    "api.acme.test:443@evil.test:443",
    "@api.acme.test:443",
    // More than an authority.
    "https://api.acme.test:443",
    "//api.acme.test:443",
    "api.acme.test:443/",
    "api.acme.test/x:443",
    "api.acme.test:443?x",
    "api.acme.test:443#x",
    "api.acme.test#:443",
    // Characters that no host has.
    "api.acme.test%2e:443",
    "api%2eacme.test:443",
    "api.acme.test%00.evil.test:443",
    "api.acme.test\\.evil.test:443",
    "api.acme.test\0.evil.test:443",
    "api.acme.test\t:443",
    "api.acme.test\x0b:443",
    "api.acme.test\x7f:443",
    "*.acme.test:443",
    "api.acme.test,evil.test:443",
    "api.acme.test;evil.test:443",
    "api.acme.test|x:443",
    "<api.acme.test>:443",
    "{api}.acme.test:443",
    "api acme.test:443",
    // Labels.
    ".acme.test:443",
    "api..acme.test:443",
    "api.acme.test..:443",
    ".:443",
    ":443",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.test:443",
    // Ports.
    "api.acme.test:0",
    "api.acme.test:00000",
    "api.acme.test:65536",
    "api.acme.test:99999999999",
    "api.acme.test:000443",
    "api.acme.test:+443",
    "api.acme.test:-443",
    "api.acme.test:0x1bb",
    "api.acme.test:443:443",
    "api.acme.test:",
    "api.acme.test:https",
    "api.acme.test: 443",
    "api.acme.test:\u{664}\u{664}\u{663}",
    // Addresses in forms that only some resolvers read.
    "0177.0.0.1:443",
    "0x7f.0.0.1:443",
    "0x7f000001:443",
    "2130706433:443",
    "127.1:443",
    "127.0.1:443",
    "127.0.0.1.1:443",
    "127.0.0.01:443",
    "127.0.0.256:443",
    "[::1%25lo]:443",
    "[::1%lo]:443",
    "[::1:443",
    "::1]:443",
    "::1:443",
    "[127.0.0.1]:443",
    "[api.acme.test]:443",
    "[]:443",
    "[::1]x:443",
    // Not IDNA.
    "xn--a.test:443",
    "xn--.test:443",
];

/// Hosts of their own that only look like the bound one: denied as strangers.
const STRANGERS: &[&str] = &[
    "api.acme.test.evil.test:443",
    "api-acme.test:443",
    "apiXacme.test:443",
    "xapi.acme.test:443",
    "api.acme.testx:443",
    "api.acme.tes:443",
    "acme.test:443",
    "test:443",
    "sub.api.acme.test:443",
    "api.acme.test-evil.test:443",
    "evil.test:443",
    "apl.acme.test:443",
    "xn--pi-7kc.acme.test:443",
    "localhost:443",
];

/// The bound host.
const SAME: &[&str] = &[
    "api.acme.test:443",
    "api.acme.test",
    "API.ACME.TEST:443",
    "aPi.AcMe.tEsT:443",
    "api.acme.test.:443",
    "API.acme.test.",
    "api.acme.test:0443",
];

async fn connect(lab: &Lab, target: &str) -> Option<Message> {
    let mut wire = lab.client().await;
    let line = lab.authorization("ci");
    wire.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {HOST}\r\n{line}\r\n")).await;
    wire.try_answer("CONNECT").await
}

#[tokio::test]
async fn a_malformed_or_ambiguous_connect_target_is_400() {
    let lab = Lab::simple().await;
    for target in REFUSED {
        let answer = connect(&lab, target).await.expect("an answer");
        assert_eq!(answer.head.status(), 400, "{target:?}: {answer:?}");
    }
    assert_eq!(lab.gateway.running().services().leaves.minted(), 0);
    lab.finish_unreached().await;
}

#[tokio::test]
async fn a_look_alike_of_the_bound_host_is_denied() {
    let lab = Lab::simple().await;
    for target in STRANGERS {
        let answer = connect(&lab, target).await.expect("an answer");
        assert_eq!(answer.refusal(), (403, Some("default_deny")), "{target:?}: {answer:?}");
    }
    assert_eq!(lab.gateway.running().services().leaves.minted(), 0);
    lab.finish_unreached().await;
}

#[tokio::test]
async fn other_spellings_of_the_bound_host_are_accepted() {
    let lab = Lab::simple().await;
    for target in SAME {
        let answer = connect(&lab, target).await.expect("an answer");
        // A port with leading zeros may also be refused, but never be another port.
        let plain = !target.ends_with(":0443");
        let status = answer.head.status();
        assert!(status == 200 || (!plain && status == 400), "{target:?}: {answer:?}");
    }
    lab.finish().await;
}

//! Which addresses are dialled, and what of an answer would lead an agent past the proxy.

use test_support::install::TOKEN_CI;
use test_support::process::{Served, reserved_address};
use test_support::*;

/// The code that a request to `target` is refused with, at CONNECT or inside TLS.
async fn refusal(lab: &Lab, target: &str, name: &str) -> String {
    let (answer, wire) = lab.connect(target).await;
    let answer = match answer.head.status() {
        200 => {
            let mut wire = lab.secure(wire, name).await;
            wire.ask(request_text("GET /a", target.trim_end_matches(":443"))).await
        }
        _ => answer,
    };
    answer.head.one("keyward-error").unwrap_or("forwarded").to_owned()
}

#[tokio::test]
async fn a_bound_host_that_points_to_loopback_is_refused_unless_allowed() {
    let origin = Origin::saying("fine");
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let addr = other.local_addr().expect("an address");
    let lab = Plan::api_key()
        .hosts("api.acme.test, inner.acme.test")
        .resolve(&format!("inner.acme.test: \"{addr}\""))
        .start(origin)
        .await;
    let code = refusal(&lab, "inner.acme.test:443", "inner.acme.test").await;
    assert_eq!(code, "address_refused");
    other.set_nonblocking(true).expect("a socket");
    assert!(other.accept().is_err(), "nothing was dialled");
    assert_eq!(lab.ask("GET /a").await.text(), "fine", "the allowed one is dialled");
    lab.finish().await;
}

#[tokio::test]
async fn addresses_that_are_not_public_are_refused() {
    let lab = Plan::api_key().top("default: pass").start(Origin::saying("fine")).await;
    for address in [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[ff02::1]",
        "[2001:db8::1]",
    ] {
        // A mapped address is the IPv4 address, on the leaf too.
        let literal: std::net::IpAddr =
            address.trim_matches(['[', ']']).parse().expect("an address");
        let name = literal.to_canonical().to_string();
        let code = refusal(&lab, &format!("{address}:443"), &name).await;
        assert_eq!(code, "address_refused", "{address}");
    }
    lab.finish_unreached().await;
}

#[tokio::test]
async fn the_gateway_s_own_listeners_are_unreachable_also_when_loopback_is_allowed() {
    let (admin, proxy) = (reserved_address().to_string(), reserved_address().to_string());
    let lab = Plan::api_key()
        .hosts("api.acme.test, admin.acme.test, proxy.acme.test")
        .admin(&admin)
        .proxy(&format!("\"{proxy}\""))
        .resolve(&format!("admin.acme.test: \"{admin}\""))
        .resolve(&format!("proxy.acme.test: \"{proxy}\""))
        .allow("127.0.0.0/8:*")
        .start(Origin::saying("fine"))
        .await;
    assert_eq!(lab.gateway.admin.to_string(), admin);
    assert_eq!(lab.gateway.proxy.to_string(), proxy);
    for name in ["admin.acme.test", "proxy.acme.test"] {
        let code = refusal(&lab, &format!("{name}:443"), name).await;
        assert_eq!(code, "address_refused", "{name}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn an_allowed_network_opens_its_ports_only() {
    let origin = Origin::saying("fine");
    let port = origin.addr.port();
    let lab = Plan::api_key()
        .hosts("api.acme.test, inner.acme.test")
        .resolve(&format!("inner.acme.test: \"127.0.0.2:{port}\""))
        .allow("127.0.0.2/32:1")
        .start(origin)
        .await;
    let code = refusal(&lab, "inner.acme.test:443", "inner.acme.test").await;
    assert_eq!(code, "address_refused");
    lab.finish().await;
}

#[tokio::test]
async fn a_redirect_is_passed_to_the_agent_and_not_followed() {
    let origin = Origin::answering(|_: &Message| {
        format!("HTTP/1.1 302 Found\r\nLocation: https://{STRANGER}/b\r\nContent-Length: 0\r\n\r\n")
    });
    let lab = Plan::api_key().start(origin).await;
    let answer = lab.ask("GET /a").await.is(302);
    assert_eq!(answer.head.one("location"), Some(&*format!("https://{STRANGER}/b")));
    lab.finish_after(1).await;
}

#[tokio::test]
async fn alt_svc_proxy_and_hop_by_hop_fields_of_an_answer_are_removed() {
    let origin = Origin::answering(|_: &Message| {
        "HTTP/1.1 407 Proxy Auth\r\nAlt-Svc: h3=\":443\"\r\nProxy-Authenticate: Basic realm=x\r\n\
         Proxy-Authentication-Info: x\r\nProxy-Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n\
         Connection: X-Named, keep-alive\r\nX-Named: 1\r\nX-Kept: 2\r\nX-Kept: 3\r\n\
         Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nno"
    });
    let lab = Plan::api_key().start(origin).await;
    let answer = lab.ask("GET /a").await;
    for name in [
        "alt-svc",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-connection",
        "keep-alive",
        "x-named",
    ] {
        assert!(!answer.head.has(name), "{name}: {answer:?}");
    }
    assert_eq!(answer.head.all("x-kept"), ["2", "3"]);
    assert_eq!(answer.head.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(answer.text(), "no");
    lab.finish().await;
}

#[tokio::test]
async fn denied_names_are_not_looked_up() {
    let plan = Plan::api_key().rule("{ name: lost, hosts: [lost.invalid], action: tunnel }");
    let origin = Origin::saying("fine");
    // In a process of its own, in which only this gateway starts threads for look-ups of names.
    let served = Served::start(&plan, &origin, &[]);
    for (name, code, is_looked_up) in [
        ("no-such-name.invalid", "default_deny", false),
        ("lost.invalid", "upstream_unreachable", true),
    ] {
        let mut wire = Wire::to(served.proxy).await;
        let authorization = format!("Proxy-Authorization: Bearer {TOKEN_CI}");
        wire.send(format!(
            "CONNECT {name}:443 HTTP/1.1\r\n{authorization}\r\nHost: {name}\r\n\r\n"
        ))
        .await;
        assert_eq!(wire.answer("CONNECT").await.head.one("keyward-error"), Some(code), "{name}");
        let threads = served.thread_names();
        assert_eq!(threads.iter().any(|it| it == "keyward-lookup"), is_looked_up, "{threads:?}");
    }
}

//! `localhost`, which links and redirect URIs name: both of its addresses are the gateway's, so that no other program
//! receives what browsers send there.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use test_support::gateway::Gateway;
use test_support::*;

const BOTH: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Whether this machine has both addresses.
fn has_both() -> bool {
    BOTH.iter().all(|ip| TcpListener::bind((*ip, 0)).is_ok())
}

async fn started(listen: &str) -> Result<Gateway, String> {
    let yaml = format!("listen: {{ proxy: '127.0.0.1:0', admin: '{listen}' }}\n");
    Gateway::try_start(&yaml, &BTreeMap::new(), &[]).await
}

async fn is_gateway_at(at: SocketAddr) {
    let mut wire = Wire::to(at).await;
    let host = format!("localhost:{}", at.port());
    wire.ask(format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n")).await.is(200);
}

#[tokio::test]
async fn both_addresses_of_localhost_are_the_gateway_also_with_a_free_port_and_after_a_restart() {
    if !has_both() {
        return;
    }
    for listen in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
        let mut gateway = started(listen).await.expect(listen);
        for _ in 0..2 {
            for ip in BOTH {
                is_gateway_at(SocketAddr::new(ip, gateway.admin.port())).await;
            }
            gateway.restart().await;
        }
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_start_is_refused_if_another_program_has_an_address_of_localhost() {
    if !has_both() {
        return;
    }
    for (taken, listen) in [(BOTH[1], "127.0.0.1"), (BOTH[1], "0.0.0.0"), (BOTH[0], "[::1]")] {
        let other = TcpListener::bind((taken, 0)).expect("a free port");
        let at = other.local_addr().expect("it is bound");
        let listen = format!("{listen}:{}", at.port());
        let refused = started(&listen).await.err().expect(&listen);
        assert!(refused.contains(&format!("cannot listen on {at}")), "{listen}: {refused}");
        drop(other);
        let mut gateway = started(&listen).await.expect(&listen);
        is_gateway_at(at).await;
        gateway.stop().await;
    }
}

#[tokio::test]
async fn another_public_name_or_port_leaves_the_other_address_free() {
    if !has_both() {
        return;
    }
    for public in ["https://keyward.example.com", "http://localhost:1"] {
        let other = TcpListener::bind((BOTH[1], 0)).expect("a free port");
        let port = other.local_addr().expect("it is bound").port();
        let yaml = format!(
            "public_url: {public}\nlisten: {{ proxy: '127.0.0.1:0', admin: '127.0.0.1:{port}' }}\n"
        );
        let gateway = Gateway::try_start(&yaml, &BTreeMap::new(), &[]).await;
        gateway.expect(public).stop().await;
    }
}

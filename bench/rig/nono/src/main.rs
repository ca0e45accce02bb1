//! nono-proxy, the library under `nono proxy`, with one route that has a static credential.
//! Arguments: CONFIG.json CA_OUT SESSION_TOKEN

use nono_proxy::{ProxyConfig, start};

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, config, ca_out, token] = &args[..] else { panic!("CONFIG.json CA_OUT SESSION_TOKEN") };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let text = std::fs::read(config).expect("the configuration");
    let mut config: ProxyConfig = serde_json::from_slice(&text).expect("the configuration's JSON");
    config.session_token = Some(token.clone().into());
    let running = start(config).await.expect("start");
    if let Some(ca) = running.intercept_ca_path() {
        std::fs::copy(ca, ca_out).expect("a copy of the CA");
    }
    tokio::signal::ctrl_c().await.expect("a signal");
}

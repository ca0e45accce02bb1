//! http-mitm-proxy with default features (native-tls upstream) as a proxy that injects a field.
//! Arguments: ADDR CA_CERT CA_KEY NAME VALUE; the upstream's CA by SSL_CERT_FILE.

use http_mitm_proxy::hyper::header::{HeaderName, HeaderValue};
use http_mitm_proxy::hyper::service::service_fn;
use http_mitm_proxy::moka::sync::Cache;
use http_mitm_proxy::{DefaultClient, MitmProxy, default_client};

/// Leaves kept: more than the hosts of any scenario.
const LEAVES_MAX: u64 = 10_000;

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, addr, cert, key, name, value] = &args[..] else { panic!("ADDR CERT KEY NAME VALUE") };
    let read = |path: &String| std::fs::read_to_string(path).expect("a PEM file");
    let key = rcgen::KeyPair::from_pem(&read(key)).expect("the CA's key");
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read(cert), key).expect("the CA");
    let name: HeaderName = name.parse().expect("a field's name");
    let value: HeaderValue = value.parse().expect("a field's value");
    let client = DefaultClient::new();
    let inject = service_fn(move |mut request: http_mitm_proxy::hyper::Request<_>| {
        let client = client.clone();
        request.headers_mut().insert(name.clone(), value.clone());
        async move {
            let (answer, _) = client.send_request(request).await?;
            Ok::<_, default_client::Error>(answer)
        }
    });
    let proxy = MitmProxy::new(Some(issuer), Some(Cache::new(LEAVES_MAX)));
    let addr: std::net::SocketAddr = addr.parse().expect("an address");
    proxy.bind(addr, inject).await.expect("bind").await;
}

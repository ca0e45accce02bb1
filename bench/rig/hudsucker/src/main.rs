//! hudsucker as a proxy that injects a field. Arguments: ADDR CA_CERT CA_KEY UPSTREAM_CA NAME VALUE

use hudsucker::certificate_authority::RcgenAuthority;
use hudsucker::hyper::Request;
use hudsucker::hyper::header::{HeaderName, HeaderValue};
use hudsucker::rcgen::{Issuer, KeyPair};
use hudsucker::rustls::crypto::aws_lc_rs::default_provider;
use hudsucker::rustls::{ClientConfig, RootCertStore};
use hudsucker::{Body, HttpContext, HttpHandler, Proxy, RequestOrResponse};
use hyper_rustls::HttpsConnectorBuilder;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Leaves kept: more than the hosts of any scenario.
const LEAVES_MAX: u64 = 10_000;

#[derive(Clone)]
struct Inject(HeaderName, HeaderValue);

impl HttpHandler for Inject {
    async fn handle_request(
        &mut self,
        _: &HttpContext,
        mut request: Request<Body>,
    ) -> RequestOrResponse {
        request.headers_mut().insert(self.0.clone(), self.1.clone());
        request.into()
    }
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, addr, cert, key, trusted, name, value] = &args[..] else {
        panic!("ADDR CERT KEY TRUSTED NAME VALUE")
    };
    let _ = default_provider().install_default();
    let read = |path: &String| std::fs::read_to_string(path).expect("a PEM file");
    let key = KeyPair::from_pem(&read(key)).expect("the CA's key");
    let issuer = Issuer::from_ca_cert_pem(&read(cert), key).expect("the CA");
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(trusted).expect("the upstream's CA") {
        roots.add(root.expect("a certificate")).expect("a root");
    }
    let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    let (name, value) = (name.parse().expect("a name"), value.parse().expect("a value"));
    Proxy::builder()
        .with_addr(addr.parse().expect("an address"))
        .with_ca(RcgenAuthority::new(issuer, LEAVES_MAX, default_provider()))
        .with_http_connector(https.enable_http1().enable_http2().build())
        .with_http_handler(Inject(name, value))
        .build()
        .expect("a proxy")
        .start()
        .await
        .expect("to serve");
}

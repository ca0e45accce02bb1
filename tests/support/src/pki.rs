//! A certificate authority for origins, one for the whole test run, and the roots that trust it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The authority that issues origins' certificates.
pub struct Pki {
    issuer: Issuer<'static, KeyPair>,
    /// What `upstream.trust` is given.
    pub pem: String,
}

/// The run's authority.
pub fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Pki { issuer: Issuer::new(params, key), pem }
    })
}

impl Pki {
    /// TLS for an origin that is `names`.
    pub fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("names");
        Arc::new(self.server_with(params))
    }

    /// A certificate for `names` and its key, in PEM, for an origin that is a program, or for a client.
    pub fn pem(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        // Without a name of its own it has its issuer's, which OpenSSL takes for its own signature.
        let name = names[0].clone();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// TLS for an origin whose certificate has expired.
    pub fn expired(&self, name: &str) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 2, 1);
        Arc::new(self.server_with(params))
    }

    /// A chain and a key for a server that is a program of its own, in PEM.
    pub fn pair(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("names");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem() + &self.pem, key.serialize_pem())
    }

    /// Whatever name a client asks for, each with a certificate of its own.
    pub fn any_name(&'static self) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let der = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let signing = provider().key_provider.load_private_key(der).expect("a key");
        let made = Mutex::default();
        let names = AnyName { pki: self, key, signing, made };
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(names));
        Arc::new(config)
    }

    fn server_with(&self, params: CertificateParams) -> ServerConfig {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let chain = vec![certificate.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key);
        config.expect("the key is the certificate's")
    }
}

/// Makes the certificate of a name when a client first asks for it.
struct AnyName {
    pki: &'static Pki,
    key: KeyPair,
    signing: Arc<dyn SigningKey>,
    made: Mutex<BTreeMap<String, Arc<CertifiedKey>>>,
}

impl fmt::Debug for AnyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyName")
    }
}

impl ResolvesServerCert for AnyName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_owned();
        let mut made = self.made.lock().expect("not poisoned");
        let make = || {
            let params = CertificateParams::new(vec![name.clone()]).expect("a name");
            let made = params.signed_by(&self.key, &self.pki.issuer).expect("a certificate");
            Arc::new(CertifiedKey::new(vec![made.der().clone()], self.signing.clone()))
        };
        Some(made.entry(name.clone()).or_insert_with(make).clone())
    }
}

/// TLS for a client that trusts the certificates in `pem` and nothing else.
pub fn trusting(pem: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("a certificate");
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

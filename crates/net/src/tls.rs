//! TLS configuration: the crypto provider of the process, the trusted roots, and the client configuration made
//! of both. `client.rs` does handshakes; the CA of `proxy` makes certificates for agents.
//!
//! [`ExactTrust`]: verifies servers by roots, and accepts each given certificate also as the server's own. What
//! `openssl req -x509` makes is root and server certificate at once (`CA:TRUE`, or X.509 v1), which chains do not permit.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature_with_raw_key,
};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use keyward_base::secret::Secret;

/// TLS 1.2 and 1.3 (RFC 8996).
pub const VERSIONS: &[&rustls::SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];

/// The ALPN name of HTTP/1.1.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";

/// The ALPN name of HTTP/2 over TLS (RFC 9113 §3.2).
pub const ALPN_HTTP2: &[u8] = b"h2";

/// Sessions kept for resumption, over all upstreams; the oldest are evicted.
const SESSIONS_MAX: usize = 2_048;

/// Sessions kept for resumption by a connection with a certificate or CA of its own.
const CONNECTION_SESSIONS_MAX: usize = 32;

/// Built once, because a provider per configuration would duplicate its tables.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    use aws_lc_rs::cipher_suite as suite;
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        ..aws_lc_rs::default_provider()
    })
});

/// Why there is no TLS configuration. All cases are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate file cannot be read, or is not PEM.
    #[error("cannot read certificates from {path}: give a PEM file", path = path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: pem::Error,
    },
    /// A PEM file without a certificate.
    #[error(
        "{path} holds no certificate: give a PEM file with at least one",
        path = path.display()
    )]
    Empty { path: PathBuf },
    /// The private key is invalid.
    #[error("the key's file holds no private key: give one in PEM, without a password")]
    Key(#[source] pem::Error),
    /// A configured root is not a valid trust anchor.
    #[error("root certificate {number} of `upstream.trust` is not usable: remove or replace it")]
    Root {
        /// Its position, from 1.
        number: usize,
        #[source]
        source: rustls::Error,
    },
    /// Neither the platform nor the configuration has a root.
    #[error(
        "no root certificates ({problem}): install the platform's ca-certificates, set \
         SSL_CERT_FILE, or name roots in `upstream.trust`"
    )]
    NoRoots {
        /// The error of the platform's store.
        problem: String,
    },
    /// The certificate is of another private key.
    #[error("the private key is not that of the certificate: give the pair that was made together")]
    OtherKey,
    /// The provider does not support the protocol versions, or this certificate and key.
    #[error("the TLS provider refuses the configuration")]
    Config(#[source] rustls::Error),
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::InconsistentKeys(_) => Self::OtherKey,
            error => Self::Config(error),
        }
    }
}

/// A client certificate for authorization servers (RFC 8705), with its key.
#[derive(Clone, Debug)]
pub struct ClientIdentity(Arc<CertifiedKey>);

impl ClientIdentity {
    /// Parses PEM: the certificate, then its issuers, and the private key.
    ///
    /// # Errors
    /// When either is not PEM, or they do not match.
    pub fn from_pem(chain: &Secret, key: &Secret) -> Result<Self, TlsError> {
        let certs = CertificateDer::pem_slice_iter(chain.expose()).collect::<Result<Vec<_>, _>>();
        let certs = certs.map_err(TlsError::Key)?;
        let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(TlsError::Key)?;
        Ok(Self(Arc::new(CertifiedKey::from_der(certs, key, &provider())?)))
    }

    /// Adds this identity to `config`. Sessions of another identity are not resumed.
    pub(super) fn with(&self, config: &ClientConfig) -> Arc<ClientConfig> {
        let mut config = config.clone();
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(Arc::clone(&self.0)));
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }
}

/// Whether these are a certificate in PEM and its private key.
pub fn is_identity(chain: &Secret, key: &Secret) -> bool {
    ClientIdentity::from_pem(chain, key).is_ok()
}

/// Whether this is at least one certificate in PEM that can be a trust anchor.
pub fn is_ca(pem: &Secret) -> bool {
    roots_of(pem).is_ok()
}

/// `base` with a client certificate and its key, and with the only CA or certificate that is trusted. Its sessions are its own.
///
/// # Errors
/// When the texts are not certificates and a key in PEM.
pub fn connection_config(
    base: &ClientConfig,
    identity: Option<(&Secret, &Secret)>,
    ca: Option<&Secret>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = base.clone();
    config.resumption = Resumption::in_memory_sessions(CONNECTION_SESSIONS_MAX);
    if let Some(ca) = ca {
        let (roots, given) = roots_of(ca)?;
        config.dangerous().set_certificate_verifier(ExactTrust::new(roots, given, provider())?);
    }
    if let Some((chain, key)) = identity {
        let identity = ClientIdentity::from_pem(chain, key)?;
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(identity.0));
    }
    Ok(Arc::new(config))
}

/// The certificates of `pem`, each of which is a root, and at least one.
fn roots_of(pem: &Secret) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsError> {
    let given = CertificateDer::pem_slice_iter(pem.expose()).collect::<Result<Vec<_>, _>>();
    let (mut roots, given) = (RootCertStore::empty(), given.map_err(TlsError::Key)?);
    for certificate in &given {
        roots.add(certificate.clone())?;
    }
    match roots.is_empty() {
        true => Err(TlsError::Key(pem::Error::NoItemsFound)),
        false => Ok((roots, given)),
    }
}

/// The process's crypto provider: aws-lc-rs with AEAD suites and forward secrecy only; AES-128-GCM first, the
/// fastest with AES instructions, in TLS 1.3 and 1.2.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// Verifies upstreams with the platform's roots and `extra`, which may also be the certificates of servers; TLS 1.2 or newer, bounded resumption, ALPN
/// `http/1.1`. Call it once per TLS identity and share the result, which contains the session cache.
///
/// # Errors
/// When one of `extra` is unusable, or there are no roots. Unusable roots of the platform are skipped: old
/// stores contain some, and one must not stop the gateway.
pub fn client_config(extra: &[CertificateDer<'static>]) -> Result<Arc<ClientConfig>, TlsError> {
    client_config_with(platform_roots(), extra)
}

/// A listener's configuration for a given certificate: TLS 1.2 or newer, HTTP/1.1.
///
/// # Errors
/// When `key` is not a private key in PEM, or does not match the certificate.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: &Secret,
) -> Result<Arc<ServerConfig>, TlsError> {
    let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(TlsError::Key)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
    config.ignore_client_order = true;
    Ok(Arc::new(config))
}

/// Reads the certificates of a PEM file; other contents are skipped.
///
/// # Errors
/// When it cannot be read, is malformed, or contains no certificate.
pub fn load_pem_certs(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read_error = |source| TlsError::Read { path: path.to_owned(), source };
    let certs =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match certs.map_err(read_error)? {
        certs if certs.is_empty() => Err(TlsError::Empty { path: path.to_owned() }),
        certs => Ok(certs),
    }
}

/// The platform's roots (or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`).
///
/// # Errors
/// When there are none, with the reason.
pub fn platform_roots() -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    if !found.certs.is_empty() {
        for error in found.errors {
            tracing::debug!(%error, "a root certificate of the platform cannot be used");
        }
        return Ok(found.certs);
    }
    let problem = match found.errors.first() {
        Some(error) => error.to_string(),
        None => "the platform's store is empty".to_owned(),
    };
    Err(TlsError::NoRoots { problem })
}

fn client_config_with(
    platform: Result<Vec<CertificateDer<'static>>, TlsError>,
    extra: &[CertificateDer<'static>],
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    for (index, cert) in extra.iter().enumerate() {
        let number = index + 1;
        roots.add(cert.clone()).map_err(|source| TlsError::Root { number, source })?;
    }
    match platform {
        Ok(certs) => {
            roots.add_parsable_certificates(certs);
        }
        // A container without a system store is complete with configured roots.
        Err(error) if roots.is_empty() => return Err(error),
        Err(error) => tracing::warn!(%error, "only the roots of `upstream.trust` are trusted"),
    }
    if roots.is_empty() {
        let problem = "the platform's store holds no usable certificate".to_owned();
        return Err(TlsError::NoRoots { problem });
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)?
        .dangerous()
        .with_custom_certificate_verifier(ExactTrust::new(roots, extra.to_vec(), provider())?)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(Arc::new(config))
}

/// Verifies by chains to roots, or by equality with a given certificate, for its names and within its validity.
#[derive(Debug)]
pub(super) struct ExactTrust {
    chains: Arc<WebPkiServerVerifier>,
    algorithms: WebPkiSupportedAlgorithms,
    given: Vec<CertificateDer<'static>>,
}

impl ExactTrust {
    /// Trusts `roots`, and `given` as certificates of servers.
    ///
    /// # Errors
    /// When there is no root.
    pub(super) fn new(
        roots: RootCertStore,
        given: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<Self>, Error> {
        let algorithms = provider.signature_verification_algorithms;
        let chains = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build();
        let chains = chains.map_err(|error| Error::General(error.to_string()))?;
        Ok(Arc::new(Self { chains, algorithms, given }))
    }

    fn is_given(&self, certificate: &CertificateDer<'_>) -> bool {
        self.given.iter().any(|given| given == certificate)
    }
}

impl ServerCertVerifier for ExactTrust {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.chains.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(_) if self.is_given(certificate) => verify_given(certificate, name, now),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, certificate, signed)
    }

    /// rustls does not read X.509 v1, so its key verifies alone. In TLS 1.2 such a certificate is refused.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !self.is_given(certificate) {
            return self.chains.verify_tls13_signature(message, certificate, signed);
        }
        let key = SubjectPublicKeyInfoDer::from(parsed(certificate)?.subject_pki.raw);
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    let parsed = X509Certificate::from_der(certificate);
    parsed.map(|(_, parsed)| parsed).map_err(|_| CertificateError::BadEncoding.into())
}

/// Checks validity and name. Without alternative names, the common name is the host's, as it was before RFC 6125.
fn verify_given(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, Error> {
    let parsed = parsed(certificate)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let is_common = |common: &str| common.eq_ignore_ascii_case(&name.to_str());
    let mut common = parsed.subject().iter_common_name().filter_map(|it| it.as_str().ok());
    match parsed.subject_alternative_name() {
        _ if now < parsed.validity().not_before.timestamp() => {
            Err(CertificateError::NotValidYet.into())
        }
        _ if now > parsed.validity().not_after.timestamp() => Err(CertificateError::Expired.into()),
        Ok(None) if common.any(is_common) => Ok(()),
        Ok(None) => Err(CertificateError::NotValidForName.into()),
        _ => verify_server_name(&ParsedCertificate::try_from(certificate)?, name),
    }
    .map(|()| ServerCertVerified::assertion())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use rustls::version::{TLS12, TLS13};
    use rustls::{CipherSuite, ProtocolVersion, ServerConfig, SupportedProtocolVersion};
    use rustls_pki_types::PrivateKeyDer;
    use rustls_pki_types::pem::PemObject;
    use tokio::io::duplex;
    use tokio_rustls::TlsAcceptor;

    use super::super::client::{CertificateFault, HandshakeError, connect_tls};
    use super::{client_config, provider, *};
    use keyward_base::host::{Scheme, Target};

    fn no_platform_roots() -> Result<Vec<CertificateDer<'static>>, TlsError> {
        Err(TlsError::NoRoots { problem: "none here".to_owned() })
    }

    fn root() -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(vec!["root.test".to_owned()]);
        made.expect("self-signed").cert.der().clone()
    }

    #[test]
    fn no_roots_at_all_is_an_error_that_names_the_problem() {
        let error = client_config_with(no_platform_roots(), &[]).expect_err("no roots");
        assert!(error.to_string().contains("none here"), "{error}");
    }

    #[test]
    fn platform_roots_that_are_all_unusable_count_as_none() {
        let junk = CertificateDer::from(b"junk".to_vec());
        assert!(matches!(client_config_with(Ok(vec![junk]), &[]), Err(TlsError::NoRoots { .. })));
    }

    #[test]
    fn an_unusable_root_is_skipped_on_the_platform_and_an_error_in_the_configuration() {
        let junk = || CertificateDer::from(b"junk".to_vec());
        assert!(client_config_with(Ok(vec![junk(), root()]), &[]).is_ok());
        let error = client_config_with(Ok(vec![root()]), &[root(), junk()]).expect_err("junk");
        assert!(matches!(error, TlsError::Root { number: 2, .. }), "{error}");
    }

    #[test]
    fn a_key_of_another_certificate_has_a_distinct_error() {
        let key = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        let error = server_config(vec![root()], &Secret::from(key)).expect_err("another key");
        assert!(matches!(error, TlsError::OtherKey), "{error}");
    }

    #[test]
    fn configured_roots_suffice_where_the_platform_has_none() {
        assert!(client_config_with(no_platform_roots(), &[root()]).is_ok());
    }

    #[test]
    fn files_without_certificates_are_refused_and_named() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("roots.pem");
        assert!(matches!(load_pem_certs(&path), Err(TlsError::Read { .. })));
        std::fs::write(&path, "nothing").expect("write");
        let error = load_pem_certs(&path).expect_err("empty");
        assert!(error.to_string().contains("roots.pem"), "{error}");
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n").expect("write");
        assert!(matches!(load_pem_certs(&path), Err(TlsError::Read { .. })));
    }

    #[test]
    fn every_suite_is_aead_with_forward_secrecy_and_aes_128_stands_first() {
        let provider = provider();
        let suites = &provider.cipher_suites;
        let first = |version: ProtocolVersion| {
            suites.iter().find(|s| s.version().version == version).map(|s| s.suite())
        };
        assert_eq!(first(ProtocolVersion::TLSv1_3), Some(CipherSuite::TLS13_AES_128_GCM_SHA256));
        assert_eq!(
            first(ProtocolVersion::TLSv1_2),
            Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
        );
        for suite in suites {
            let name = format!("{:?}", suite.suite());
            assert!(name.contains("GCM") || name.contains("CHACHA20_POLY1305"), "{name}");
            assert!(name.starts_with("TLS13_") || name.starts_with("TLS_ECDHE_"), "{name}");
        }
    }

    #[test]
    fn the_provider_is_built_once() {
        assert!(Arc::ptr_eq(&provider(), &provider()));
    }

    #[test]
    fn http_1_1_is_offered() {
        let config = client_config_with(no_platform_roots(), &[root()]).expect("config");
        assert_eq!(config.alpn_protocols, [ALPN_HTTP1]);
    }

    /// X.509 v1 for `api.test`, by `openssl x509 -req -signkey`, valid for a century.
    const V1: &str = "-----BEGIN CERTIFICATE-----
MIIBIzCByQIUUFPSwNiiDaYDo6Aa6mFac/ZvY54wCgYIKoZIzj0EAwIwEzERMA8G
A1UEAwwIYXBpLnRlc3QwIBcNMDAwMTAxMDAwMDAwWhgPMjEyNjExMDUxNjQ5MzZa
MBMxETAPBgNVBAMMCGFwaS50ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
/AwYa5gYWTK1oKgVdFisLwbblVElRuykSYPzpUsSCPGXMMuYUWzawv4oeH0yqHty
MI4pd4RnkwdN76Txo6BosDAKBggqhkjOPQQDAgNJADBGAiEAgcW+WXutGPVE+Ck9
FV9FAWuVfAedWUmCBEkpxbvYZBsCIQDtkjYOOc1Ahk4vKyP8ggpDPiPNLYwrUNrE
3XpevtMy1g==
-----END CERTIFICATE-----";
    const V1_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgY/jVxhW2tC6KmPNL
mfnZlqXAYX6xzandQdmArHOTVAChRANCAAT8DBhrmBhZMrWgqBV0WKwvBtuVUSVG
7KRJg/OlSxII8Zcwy5hRbNrC/ih4fTKoe3Iwjil3hGeTB03vpPGjoGiw
-----END PRIVATE KEY-----";

    struct Server {
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    }

    impl Server {
        fn v1() -> Self {
            let certificate = CertificateDer::from_pem_slice(V1.as_bytes()).expect("PEM");
            let key = PrivateKeyDer::from_pem_slice(V1_KEY.as_bytes()).expect("PEM");
            Self { certificate, key }
        }

        /// Self-signed, with a common name and perhaps alternative names, valid until `year`.
        fn made(common: &str, names: &[&str], ca: IsCa, year: i32) -> Self {
            let key = KeyPair::generate().expect("a key");
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let mut params = CertificateParams::new(names).expect("names");
            params.distinguished_name.push(DnType::CommonName, common);
            params.is_ca = ca;
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let certificate = params.self_signed(&key).expect("a certificate").der().clone();
            Self { certificate, key: PrivateKeyDer::try_from(key.serialize_der()).expect("a key") }
        }

        /// What the client says of it that trusts only `trusted`.
        async fn verdict(
            &self,
            version: &'static SupportedProtocolVersion,
            trusted: &CertificateDer<'static>,
        ) -> Option<CertificateFault> {
            let key =
                provider().key_provider.load_private_key(self.key.clone_key()).expect("a key");
            let certified = CertifiedKey::new(vec![self.certificate.clone()], key);
            let config = ServerConfig::builder_with_provider(provider());
            let config = config.with_protocol_versions(&[version]).expect("a version");
            let config = config.with_no_client_auth();
            let config = config.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
            let (ours, theirs) = duplex(64 * 1024);
            tokio::spawn(TlsAcceptor::from(Arc::new(config)).accept(theirs));
            let target = Target::parse(Scheme::Https, "api.test").expect("a target");
            let config = client_config(std::slice::from_ref(trusted)).expect("roots");
            match connect_tls(ours, &target, config, Duration::from_secs(60)).await {
                Ok(_) => None,
                Err(HandshakeError::Certificate { fault, .. }) => Some(fault),
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    const CA: IsCa = IsCa::Ca(BasicConstraints::Unconstrained);

    #[tokio::test]
    async fn a_given_certificate_of_a_server_is_refused_for_another_name_or_when_it_has_expired() {
        use CertificateFault::{Expired, NameMismatch};
        for (server, fault) in [
            (Server::made("api.test", &["other.test"], CA, 4000), NameMismatch),
            (Server::made("other.test", &[], CA, 4000), NameMismatch),
            (Server::made("api.test", &["api.test"], CA, 2001), Expired),
        ] {
            assert_eq!(server.verdict(&TLS13, &server.certificate).await, Some(fault));
        }
    }

    #[tokio::test]
    async fn a_certificate_that_is_not_the_given_one_is_refused() {
        let same = || Server::made("api.test", &["api.test"], CA, 4000);
        let verdict = same().verdict(&TLS13, &same().certificate).await;
        assert!(verdict.is_some(), "it has another key");
        assert!(Server::v1().verdict(&TLS13, &same().certificate).await.is_some());
    }

    #[tokio::test]
    async fn a_given_certificate_is_accepted_although_it_is_a_ca_has_a_common_name_only_or_is_of_v1()
     {
        for server in [
            Server::made("api.test", &["api.test"], CA, 4000),
            Server::made("api.test", &["api.test"], IsCa::ExplicitNoCa, 4000),
            Server::made("API.test", &[], CA, 4000),
            Server::v1(),
        ] {
            assert_eq!(server.verdict(&TLS13, &server.certificate).await, None);
        }
        let server = Server::made("api.test", &["api.test"], CA, 4000);
        assert_eq!(server.verdict(&TLS12, &server.certificate).await, None);
    }
}

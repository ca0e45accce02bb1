//! [`ExactTrust`]: verifies servers by roots, and accepts each given certificate also as the server's own. What
//! `openssl req -x509` makes is root and server certificate at once (`CA:TRUE`, or X.509 v1), which chains do not permit.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key,
};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

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
    use rustls::{ServerConfig, SupportedProtocolVersion};
    use rustls_pki_types::PrivateKeyDer;
    use rustls_pki_types::pem::PemObject;
    use tokio::io::duplex;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::client::{CertificateFault, HandshakeError, connect_tls};
    use crate::tls::{client_config, provider};
    use keyward_base::host::{Scheme, Target};

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

//! [`Remote`]: a gateway that `KEYWARD_URL` or `--gateway` names, reached over TCP. The token is sent only over TLS, or to
//! this machine, and only to the named server: no redirect is followed, and no proxy is used.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};

use super::messages::sent;
use crate::cli::failure::{Exit, Failure};
use crate::cli::settings::Identity;
use crate::cli::settings::{Global, URL, named};
use keyward_base::host::{Host, Scheme, Target};
use keyward_net::client::{CertificateFault, HandshakeError, connect_tls};
use keyward_net::dial::dial_named;
use keyward_net::tls;

/// The option that names the gateway.
const OPTION: &str = "--gateway";
/// The variable that names further roots.
const CA: &str = "KEYWARD_CA";
/// For resolving and connecting, and for TLS.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// The field that every answer of a gateway has.
const OURS: &str = "keyward-request";

/// A gateway elsewhere.
#[derive(Clone)]
pub(crate) struct Remote {
    target: Target,
    /// The path that a reverse proxy serves it at, without a slash at its end.
    prefix: String,
    ca: Option<PathBuf>,
    /// What names it: the option or the variable.
    named_by: &'static str,
}

impl Remote {
    /// The gateway that is named; `None` for the one of this machine.
    ///
    /// # Errors
    /// When the text is not a URL, or a token would be sent in cleartext to another machine.
    pub(crate) fn of(global: &Global) -> Result<Option<Self>, Failure> {
        let Some(text) = named(global) else { return Ok(None) };
        if global.data.is_some() {
            let message = format!("--data names a gateway of this machine, and {URL} another one");
            return Err(
                Failure::usage(message).hint(format!("omit --data, or unset {URL} and --gateway"))
            );
        }
        let ca = std::env::var_os(CA).filter(|path| !path.is_empty()).map(PathBuf::from);
        let named_by = if global.gateway.is_some() { OPTION } else { URL };
        Self::parse(&text, named_by, ca).map(Some)
    }

    fn parse(text: &str, named_by: &'static str, ca: Option<PathBuf>) -> Result<Self, Failure> {
        // The text may hold a password, so it is not repeated.
        let wrong = || {
            Failure::usage(format!("{named_by} is not the URL of a gateway"))
                .hint("write https://keyward.example.com, without user, query and fragment")
        };
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
            _ => return Err(wrong()),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let target = Target::parse(scheme, authority).map_err(|_| wrong())?;
        let is_path = path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#'));
        if !is_path {
            return Err(wrong());
        }
        if scheme == Scheme::Http && !target.host().is_this_machine() {
            let message = format!("http://{authority} would get the token in cleartext");
            return Err(Failure::usage(message)
                .hint("write https://; http:// is for a gateway of this machine"));
        }
        let path = path.trim_matches('/');
        let prefix = if path.is_empty() { String::new() } else { format!("/{path}") };
        Ok(Self { target, prefix, ca, named_by })
    }

    /// Refuses a command that would have nothing to send.
    pub(super) fn known_to(&self, identity: &Identity) -> Result<(), Failure> {
        match identity.has_token() {
            true => Ok(()),
            false => Err(Failure::new(Exit::Forbidden, format!("there is no token for {self}"))
                .hint("set KEYWARD_TOKEN: an admin makes one with `keyward token add USER`")),
        }
    }

    /// The host of the gateway.
    pub(crate) fn host(&self) -> &Host {
        self.target.host()
    }

    /// Sends a request whose target is the path of the API.
    ///
    /// # Errors
    /// When the gateway is not reached or does not prove its name, and when something else answers.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, Failure> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let whole = format!("{}{path}", self.prefix);
        *request.uri_mut() = whole.parse::<Uri>().map_err(|error| cannot_write(&error))?;
        let host =
            HeaderValue::from_str(&self.authority()).map_err(|error| cannot_write(&error))?;
        request.headers_mut().insert(header::HOST, host);
        let stream = dial_named(&self.target, CONNECT_WITHIN).await.map_err(|error| {
            let message = format!("{self} is not reached: {error}");
            let hint = format!("check {} and the network", self.named_by);
            Failure::new(Exit::Unreachable, message).hint(hint)
        })?;
        let answer = match self.target.scheme() {
            Scheme::Http => self.exchange(stream, request).await?,
            Scheme::Https => {
                let config = self.tls()?;
                let secured = connect_tls(stream, &self.target, config, CONNECT_WITHIN).await;
                let secured = secured.map_err(|error| self.unproved(&error))?;
                self.exchange(secured, request).await?
            }
        };
        self.checked(answer)
    }

    async fn exchange<S>(
        &self,
        stream: S,
        request: Request<Body>,
    ) -> Result<Response<Body>, Failure>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        sent(stream, request).await.map_err(|error| {
            let message = format!("{self} gave no answer: {error}");
            let by = self.named_by;
            Failure::new(Exit::Unreachable, message)
                .hint(format!("check that {by} names the admin listener, and its scheme"))
        })
    }

    /// Roots of the platform (or of `SSL_CERT_FILE`), and those of `KEYWARD_CA`.
    fn tls(&self) -> Result<Arc<ClientConfig>, Failure> {
        let extra = match &self.ca {
            None => Vec::new(),
            Some(path) => tls::load_pem_certs(path)
                .map_err(|error| Failure::new(Exit::Failed, format!("{CA}: {error}")))?,
        };
        tls::client_config(&extra).map_err(|error| match (&error, &self.ca) {
            (tls::TlsError::Root { .. }, Some(path)) => {
                let message =
                    format!("{CA}: {} holds a certificate that is no root", path.display());
                Failure::new(Exit::Failed, message)
            }
            _ => Failure::new(Exit::Failed, error.to_string()),
        })
    }

    fn unproved(&self, error: &HandshakeError) -> Failure {
        let failure = Failure::new(Exit::Unreachable, format!("{self} is not trusted: {error}"));
        let trusted = match &self.ca {
            None => "the system's roots are trusted".to_owned(),
            Some(path) => format!("the system's roots and those of {} are trusted", path.display()),
        };
        match error {
            HandshakeError::Certificate { fault: CertificateFault::UnknownIssuer, .. } => {
                failure.hint(format!("{trusted}: name the PEM file of the issuing CA in {CA}"))
            }
            HandshakeError::Certificate { fault: CertificateFault::NameMismatch, .. } => {
                failure.hint(format!("write a name of its certificate in {}", self.named_by))
            }
            HandshakeError::Certificate { .. } => {
                failure.hint("its owner must renew the certificate")
            }
            _ => {
                let by = self.named_by;
                failure.hint(format!("check that {by} names a listener that speaks TLS"))
            }
        }
    }

    /// Refuses the answer of another server.
    fn checked(&self, answer: Response<Body>) -> Result<Response<Body>, Failure> {
        let status = answer.status();
        if answer.headers().contains_key(OURS) {
            return Ok(answer);
        }
        let failure = |exit, message: String| Err(Failure::new(exit, message));
        let by = self.named_by;
        if status.is_redirection() {
            let to = answer.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
            let to: String = to.unwrap_or("nowhere").chars().filter(|c| !c.is_control()).collect();
            let message = format!("{self} redirects to {to}, and would get the token");
            return failure(Exit::Failed, message)
                .map_err(|failure| failure.hint(format!("name the gateway itself in {by}")));
        }
        let is_of_proxy =
            [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
        if is_of_proxy.contains(&status) {
            let message = format!("a server before {self} answered {status}");
            return failure(Exit::Unreachable, message)
                .map_err(|failure| failure.hint("the gateway behind it may have stopped"));
        }
        failure(Exit::Failed, format!("{self} is not a Keyward gateway: it answered {status}"))
            .map_err(|failure| failure.hint(format!("check {by}: it names the admin listener")))
    }

    /// Host and port as in `Host`.
    fn authority(&self) -> String {
        let (host, port) = (self.target.host(), self.target.port());
        match port == self.target.scheme().default_port() {
            true => host.to_string(),
            false => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.target.scheme() {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}{}", self.authority(), self.prefix)
    }
}

fn cannot_write(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::failed("cannot write the request", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, String> {
        let remote = Remote::parse(text, URL, None);
        remote.map(|remote| remote.to_string()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_cleartext_url_of_another_machine_and_an_invalid_url_are_refused() {
        for text in ["http://kw.example.com", "HTTP://10.0.0.1:8081", "http://localhost.example"] {
            let said = parsed(text).unwrap_err();
            assert!(said.contains("would get the token in cleartext"), "{said}");
        }
        for text in
            ["", "x", "kw.example.com", "ftp://a", "https://", "https://a/?b", "https://a/#b"]
        {
            assert!(parsed(text).unwrap_err().contains("not the URL of a gateway"), "{text}");
        }
        let said = parsed("https://ann:canary@kw.example.com").unwrap_err();
        assert!(!said.contains("canary"), "{said}");
    }

    #[test]
    fn a_gateway_url_is_normalised_and_may_have_a_port_and_a_path() {
        for (text, shown) in [
            ("https://KW.example.com", "https://kw.example.com"),
            ("https://kw.example.com:443/", "https://kw.example.com"),
            ("https://kw.example.com:8443/keyward/", "https://kw.example.com:8443/keyward"),
            ("http://127.0.0.1:8081", "http://127.0.0.1:8081"),
            ("http://[::1]:8081", "http://[::1]:8081"),
            ("http://localhost:8081", "http://localhost:8081"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(shown));
        }
    }
}

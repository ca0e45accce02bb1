//! Digest access authentication (RFC 7616), by the `http-auth` crate: MD5, SHA-256 and SHA-512-256, each also `-sess`, with
//! `qop=auth`. A host's challenge answers all requests until the host replaces it; the nonce count goes up with each.
//!
//! The first request to a host is sent without an answer, and again with it. `proxy::exchange` decides what may be sent again.

use std::collections::BTreeMap;
use std::fmt;

use http::header::{self, HeaderMap, HeaderValue};
use http_auth::{ChallengeRef, DigestClient, PasswordParams};
use parking_lot::Mutex;

use super::error::SignError;
use keyward_base::secret::Secret;

/// The most hosts whose challenges are kept; each belongs to the connection's provider.
const HOSTS_MAX: usize = 64;

/// The longest challenge that is read.
const CHALLENGE_BYTES_MAX: usize = 4 * 1024;

/// Answers challenges with the user name and password of one connection.
pub struct DigestSigner {
    username: Secret,
    password: Secret,
    /// By host and port.
    challenges: Mutex<BTreeMap<String, DigestClient>>,
}

/// The parts of a request that an answer covers.
#[derive(Clone, Copy, Debug)]
pub struct DigestRequest<'a> {
    pub method: &'a str,
    /// Host and port.
    pub authority: &'a str,
    /// Path and query, as on the wire.
    pub target: &'a str,
}

impl DigestSigner {
    /// A signer without challenges.
    pub fn new(username: Secret, password: Secret) -> Self {
        Self { username, password, challenges: Mutex::default() }
    }

    /// Answers the host's challenge in `fields`. `false`: none is known.
    ///
    /// # Errors
    /// When a field cannot hold the answer.
    pub fn sign(
        &self,
        request: DigestRequest<'_>,
        fields: &mut HeaderMap,
    ) -> Result<bool, SignError> {
        let text = |secret: &'_ Secret| secret.expose_text().map(str::to_owned);
        let (Some(username), Some(password)) = (text(&self.username), text(&self.password)) else {
            return Err(SignError::Unsignable);
        };
        let password = zeroize::Zeroizing::new(password);
        let mut challenges = self.challenges.lock();
        let Some(challenge) = challenges.get_mut(request.authority) else { return Ok(false) };
        let answer = challenge.respond(&PasswordParams {
            username: &username,
            password: &password,
            uri: request.target,
            method: request.method,
            // `auth-int` would need the whole body, and a server that requires it is not known.
            body: None,
        });
        drop(challenges);
        let answer = answer.map_err(|_| SignError::Unsignable)?;
        let mut value = HeaderValue::try_from(answer).map_err(|_| SignError::Unsignable)?;
        value.set_sensitive(true);
        fields.insert(header::AUTHORIZATION, value);
        Ok(true)
    }

    /// Stores the challenge of a 401. Returns whether a retry may succeed: the request had no answer to a challenge
    /// (`was_unsigned`), or its nonce was stale. Otherwise the password is wrong.
    pub fn learn(&self, authority: &str, answer: &HeaderMap, was_unsigned: bool) -> bool {
        let Some(challenge) = best(answer) else {
            self.challenges.lock().remove(authority);
            return false;
        };
        let may_help = was_unsigned || challenge.stale();
        let mut challenges = self.challenges.lock();
        if challenges.len() >= HOSTS_MAX && !challenges.contains_key(authority) {
            challenges.pop_first();
        }
        challenges.insert(authority.to_owned(), challenge);
        may_help
    }
}

impl fmt::Debug for DigestSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestSigner").finish_non_exhaustive()
    }
}

/// The strongest challenge that can be answered: SHA before MD5, which some servers offer as well.
fn best(answer: &HeaderMap) -> Option<DigestClient> {
    let mut found: Vec<DigestClient> = Vec::new();
    for value in answer.get_all(header::WWW_AUTHENTICATE) {
        let text = value.to_str().ok().filter(|text| text.len() <= CHALLENGE_BYTES_MAX);
        let challenges = text.and_then(|text| http_auth::parse_challenges(text).ok());
        let readable = |challenge: &ChallengeRef<'_>| DigestClient::try_from(challenge).ok();
        found.extend(challenges.unwrap_or_default().iter().filter_map(readable));
    }
    found.into_iter().filter(|one| one.qop() & http_auth::digest::Qop::Auth).max_by_key(strength)
}

fn strength(challenge: &DigestClient) -> u8 {
    use http_auth::digest::Algorithm;
    match challenge.algorithm() {
        Algorithm::Md5 => 0,
        Algorithm::Sha256 => 1,
        // SHA-512-256.
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "api.acme.test";

    fn signer() -> DigestSigner {
        let secret = |text: &str| Secret::from(text.to_owned());
        DigestSigner::new(secret("Mufasa"), secret("Circle of Life"))
    }

    fn challenge(values: &[&str]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(header::WWW_AUTHENTICATE, value.parse().unwrap());
        }
        fields
    }

    fn answer(signer: &DigestSigner, host: &str) -> Option<String> {
        let mut fields = HeaderMap::new();
        let request = DigestRequest { method: "GET", authority: host, target: "/dir/index.html" };
        signer.sign(request, &mut fields).unwrap().then(|| {
            let value = &fields[header::AUTHORIZATION];
            assert!(value.is_sensitive());
            value.to_str().unwrap().to_owned()
        })
    }

    #[test]
    fn challenges_that_cannot_be_answered_are_not_kept() {
        let long = format!("Digest realm=\"{}\", nonce=\"n\", qop=\"auth\"", "r".repeat(5000));
        let table: [&[&str]; 8] = [
            &[],
            &["Basic realm=\"x\""],
            &["Digest realm=\"x\""],
            &["Digest nonce=\"x\", qop=\"auth\""],
            &["Digest realm=\"x\", nonce=\"n\", qop=\"auth-int\""],
            &["Digest realm=\"x\", nonce=\"n\", qop=\"auth\", algorithm=WHIRLPOOL"],
            &["Digest realm=\"x"],
            &[&long],
        ];
        for values in table {
            let signer = signer();
            assert!(!signer.learn(HOST, &challenge(values), true), "{values:?}");
            assert_eq!(answer(&signer, HOST), None, "{values:?}");
        }
    }

    #[test]
    fn an_answer_is_only_for_its_host_and_increases_the_nonce_count() {
        let signer = signer();
        assert!(signer.learn(
            HOST,
            &challenge(&["Digest realm=\"x\", nonce=\"n\", qop=\"auth\""]),
            true
        ));
        assert_eq!(answer(&signer, "other.acme.test"), None);
        for count in ["nc=00000001", "nc=00000002", "nc=00000003"] {
            let answer = answer(&signer, HOST).unwrap();
            assert!(answer.contains(count) && !answer.contains("Circle"), "{answer}");
        }
    }

    #[test]
    fn a_refused_answer_is_repeated_only_if_its_nonce_was_stale() {
        let signer = signer();
        let with = |nonce: &str, more: &str| {
            challenge(&[&*format!("Digest realm=\"x\", nonce=\"{nonce}\", qop=\"auth\"{more}")])
        };
        assert!(signer.learn(HOST, &with("a", ""), true));
        for (nonce, more, may_help) in
            [("b", ", stale=true", true), ("c", "", false), ("d", ", stale=false", false)]
        {
            // Otherwise the password is wrong.
            assert_eq!(signer.learn(HOST, &with(nonce, more), false), may_help, "{nonce}");
            let answer = answer(&signer, HOST).unwrap();
            assert!(answer.contains(&format!("nonce=\"{nonce}\"")), "{answer}");
        }
        assert!(!signer.learn(HOST, &HeaderMap::new(), false));
        assert_eq!(answer(&signer, HOST), None, "the host asks for something else now");
    }

    /// RFC 7616 §3.9.1.
    #[test]
    fn the_strongest_algorithm_of_the_rfc_s_example_is_answered() {
        let signer = signer();
        let shared = "realm=\"http-auth@example.org\", qop=\"auth, auth-int\", \
            nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";
        let (sha, md5) = (
            format!("Digest {shared}, algorithm=SHA-256"),
            format!("Digest {shared}, algorithm=MD5"),
        );
        assert!(signer.learn(HOST, &challenge(&[&md5, &sha]), true));
        let found = answer(&signer, HOST).unwrap();
        assert!(found.contains("algorithm=SHA-256"), "{found}");
        let mut client =
            DigestClient::try_from(&http_auth::parse_challenges(&sha).unwrap()[0]).unwrap();
        let params = PasswordParams {
            username: "Mufasa",
            password: "Circle of Life",
            uri: "/dir/index.html",
            method: "GET",
            body: None,
        };
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let known = client.respond_with_testing_cnonce(&params, cnonce).unwrap();
        let response = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
        assert!(known.contains(response), "{known}");
    }
}

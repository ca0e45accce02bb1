//! Signs a request with the connection's key, after everything else about it is final. What the agent's own signature
//! covers is read before it is removed.

use bytes::Bytes;
use http::Uri;
use http::uri::PathAndQuery;
use jiff::Timestamp;

use crate::body::transforms::SignedChunks;
use crate::gateway::Gateway;
use crate::refusal::Refusal;
use crate::request::held_body::{hold, replace};
use crate::request::inbound::Inbound;
use keyward_base::host::Target;
use keyward_base::secret::Secret;
use keyward_rules::inject::credential::Credential;
use keyward_rules::inject::placement::Place;
use keyward_rules::inject::sign::aws_request::{AwsRequest, Unsigned};
use keyward_rules::inject::sign::aws_sigv4::AwsKeys;
use keyward_rules::inject::sign::digest::{DigestRequest, DigestSigner};
use keyward_rules::inject::sign::request_signer::{RequestSigner, UnsignedRequest};
use keyward_rules::inject::sign::{CredentialSigner, SignError};
use keyward_rules::inject::write::WriteError;

/// What signs a request, and what its signature covers.
#[derive(Debug)]
pub enum Signing<'a> {
    Aws(AwsSigning<'a>),
    /// Answers to the host's challenges.
    Digest(&'a DigestSigner),
    /// A scheme of the provider's file, which writes these places.
    Scheme {
        signer: &'a RequestSigner,
        places: &'a [Place],
    },
}

/// AWS Signature Version 4, for what the agent signed.
#[derive(Debug)]
pub struct AwsSigning<'a> {
    keys: &'a AwsKeys,
    plan: AwsRequest,
}

/// A request with its signature.
#[derive(Debug)]
pub struct SignedUri {
    /// The URI, with the signature where that is in the query.
    pub uri: Uri,
    /// Whether the host's challenge is not known yet, so that nothing was signed.
    pub awaits_challenge: bool,
    /// The token of this request alone, which its answer is searched for.
    pub token: Option<Secret>,
}

/// The parts of the final request beside its head.
struct FinalParts<'a> {
    authority: String,
    /// Path and query.
    path: &'a str,
    /// The body, if the signature covers it.
    body: Option<Bytes>,
    now: Timestamp,
}

impl<'a> Signing<'a> {
    /// Reads what the agent signed; `None` for credentials that do not sign.
    ///
    /// # Errors
    /// When its signature cannot be made again.
    pub fn read(
        credential: Option<&'a Credential>,
        target: &Target,
        inbound: &Inbound,
    ) -> Result<Option<Self>, Refusal> {
        let signer = credential.and_then(|credential| credential.signer.as_ref());
        let head = &inbound.head;
        Ok(match signer {
            None => None,
            Some(CredentialSigner::Request(signer)) => {
                let places = signer.places(target, inbound.policy_request().path);
                Some(Self::Scheme { signer, places })
            }
            Some(CredentialSigner::Digest(signer)) => Some(Self::Digest(signer)),
            Some(CredentialSigner::AwsSigV4(keys)) => {
                let host = target.host().to_string();
                let plan = keys.read(&host, &head.headers, head.uri.query()).map_err(refused)?;
                Some(Self::Aws(AwsSigning { keys, plan }))
            }
        })
    }

    /// Whether the signature covers the body.
    pub fn needs_body(&self, inbound: &Inbound) -> bool {
        match self {
            Self::Aws(aws) => aws.plan.needs_body(),
            Self::Digest(_) => false,
            Self::Scheme { signer, places } => signer.needs_body(places, &inbound.head.headers),
        }
    }

    /// Reads the body whole, and removes from a form what the agent's own signature has written there.
    async fn hold(&self, gateway: &Gateway, inbound: &mut Inbound) -> Result<Bytes, Refusal> {
        let body = hold(gateway, inbound).await?;
        let Self::Scheme { signer, places } = self else { return Ok(body) };
        match signer.form_without_agents_signature(places, &inbound.head.headers, &body) {
            None => Ok(body),
            Some(form) => replace(gateway, inbound, form),
        }
    }

    /// Signs the request that will be sent to `uri` of the target.
    ///
    /// # Errors
    /// When the body does not arrive, is too large, or the request cannot be signed.
    pub async fn sign(
        self,
        gateway: &Gateway,
        target: &Target,
        inbound: &mut Inbound,
        uri: Uri,
    ) -> Result<SignedUri, Refusal> {
        let authority = target.authority().to_string();
        let parts = FinalParts {
            path: uri.path_and_query().map_or("/", PathAndQuery::as_str),
            body: match self.needs_body(inbound) {
                true => Some(self.hold(gateway, inbound).await?),
                false => None,
            },
            now: gateway.vault.refresh().time_at(&authority, gateway.clock.now()),
            authority,
        };
        let (mut awaits_challenge, mut token) = (false, None);
        let path = match self {
            Self::Aws(aws) => aws.sign(gateway, inbound, &parts)?,
            Self::Digest(signer) => {
                let request = DigestRequest {
                    method: inbound.head.method.as_str(),
                    authority: &parts.authority,
                    target: parts.path,
                };
                let is_signed = signer.sign(request, &mut inbound.head.headers).map_err(refused)?;
                awaits_challenge = !is_signed;
                None
            }
            Self::Scheme { signer, places } => {
                let head = &mut inbound.head;
                let request = UnsignedRequest {
                    method: head.method.as_str(),
                    authority: &parts.authority,
                    target: parts.path,
                    fields: &mut head.headers,
                    body: parts.body.as_deref().unwrap_or_default(),
                    now: parts.now,
                };
                let signed = signer.sign(places, request).map_err(refused)?;
                token = signed.token;
                signed.target
            }
        };
        let uri = match path {
            None => uri,
            Some(path) => PathAndQuery::try_from(path)
                .map(Uri::from)
                .map_err(|_| Refusal::Internal("a signature is no part of a URI"))?,
        };
        Ok(SignedUri { uri, awaits_challenge, token })
    }
}

impl AwsSigning<'_> {
    /// Signs the request; returns the new path if the signature is in the query.
    fn sign(
        &self,
        gateway: &Gateway,
        inbound: &mut Inbound,
        parts: &FinalParts<'_>,
    ) -> Result<Option<String>, Refusal> {
        let unsigned = Unsigned {
            method: inbound.head.method.as_str(),
            authority: &parts.authority,
            path: parts.path,
            fields: &mut inbound.head.headers,
            body: parts.body.as_deref(),
            now: parts.now,
        };
        let signed = self.keys.sign(&self.plan, unsigned).map_err(refused)?;
        if let Some(chunks) = signed.chunks {
            let share = gateway.injected_bodies.share(inbound.body.owner());
            inbound.body.sign_chunks(SignedChunks::new(chunks, share));
        }
        Ok(signed.path)
    }
}

fn refused(error: SignError) -> Refusal {
    WriteError::from(error).into()
}

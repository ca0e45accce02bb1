//! Signs a request with the connection's key, after everything else about it is final. What the agent's own signature
//! covers is read before it is removed.

use http::Uri;
use http::uri::PathAndQuery;

use super::body_injection::hold;
use crate::body::signed_chunks::SignedChunks;
use crate::gateway::Gateway;
use crate::refusal::Refusal;
use crate::request::inbound::Inbound;
use keyward_base::host::Target;
use keyward_rules::inject::credential::Credential;
use keyward_rules::inject::sign::aws_sigv4::{AwsKeys, AwsRequest, Unsigned};
use keyward_rules::inject::sign::{SignError, Signer};
use keyward_rules::inject::write::WriteError;

/// What signs a request, and what its signature covers.
#[derive(Debug)]
pub struct Signing<'a> {
    keys: &'a AwsKeys,
    plan: AwsRequest,
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
        let Some(Signer::AwsSigV4(keys)) = signer else { return Ok(None) };
        let head = &inbound.head;
        let host = target.host().to_string();
        let plan = keys.read(&host, &head.headers, head.uri.query()).map_err(refused)?;
        Ok(Some(Self { keys, plan }))
    }

    /// Signs the request that will be sent to `uri` of the target. Returns the URI with the signature, where that is
    /// in the query.
    ///
    /// # Errors
    /// When the body does not arrive, is too large, or the request cannot be signed.
    pub async fn sign(
        self,
        gateway: &Gateway,
        target: &Target,
        inbound: &mut Inbound,
        uri: Uri,
    ) -> Result<Uri, Refusal> {
        let body = match self.plan.needs_body() {
            true => Some(hold(gateway, inbound).await?),
            false => None,
        };
        let authority = target.authority().to_string();
        let signed = self.keys.sign(
            &self.plan,
            Unsigned {
                method: inbound.head.method.as_str(),
                authority: &authority,
                path: uri.path_and_query().map_or("/", PathAndQuery::as_str),
                fields: &mut inbound.head.headers,
                body: body.as_deref(),
                now: gateway.clock.now(),
            },
        );
        let signed = signed.map_err(refused)?;
        if let Some(chunks) = signed.chunks {
            let share = gateway.injected_bodies.share(inbound.body.owner());
            inbound.body.sign_chunks(SignedChunks::new(chunks, share));
        }
        match signed.path {
            None => Ok(uri),
            Some(path) => PathAndQuery::try_from(path)
                .map(Uri::from)
                .map_err(|_| Refusal::Internal("a signature is no part of a URI")),
        }
    }
}

fn refused(error: SignError) -> Refusal {
    WriteError::from(error).into()
}

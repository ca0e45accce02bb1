//! AWS Signature Version 4, by the `aws-sigv4` crate; Version 4A is in `aws_ecdsa`. The scope, the signed fields and the way in which the body is
//! signed are those of the agent's own signature; keys and date are ours.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{self, SignableBody, SignableRequest};
use aws_sigv4::sign::v4;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::aws_action;
use super::aws_chunks::{ChunkKey, ChunkSigner};
use super::aws_ecdsa;
use super::aws_names::{CONTENT_SHA256, DATE, stamp, with_parameters};
use super::aws_path::SignedPath;
use super::aws_payload::AwsPayload;
use super::aws_request::{AwsRequest, SignedAwsRequest, Unsigned};
use super::aws_signature::{AgentSignature, Regions, SignaturePlace};
use super::error::SignError;
use crate::aws_host::{multi_region_service, scope_of};
use keyward_base::secret::Secret;

/// Keys of an account, permanent or temporary.
#[derive(Debug)]
pub struct AwsKeys {
    /// The id, which each signature names.
    pub access_key_id: Secret,
    /// The key that signs.
    pub secret_access_key: Secret,
    /// Sent with the signatures of temporary keys.
    pub session_token: Option<Secret>,
    /// The region of requests that the agent does not sign.
    pub region: Option<Box<str>>,
    /// The service of requests that the agent does not sign.
    pub service: Option<Box<str>>,
}

impl AwsKeys {
    /// Reads the agent's signature in the head of a request to `host`.
    ///
    /// # Errors
    /// When it cannot be read, is of another algorithm, or nothing names region and service.
    pub fn read(
        &self,
        host: &str,
        fields: &HeaderMap,
        query: Option<&str>,
    ) -> Result<AwsRequest, SignError> {
        let agents = AgentSignature::find(fields, query)?;
        let AgentSignature { regions, service, signed, place } = match agents {
            Some(found) => found,
            None => self.unsigned(host)?,
        };
        let payload = AwsPayload::of(fields, &service, &place)?;
        if matches!(
            (&regions, &payload),
            (Regions::Set(_), AwsPayload::Chunks { .. })
                | (Regions::One(_), AwsPayload::AsymmetricChunks { .. })
        ) {
            return Err(SignError::Unreadable("its chunks are signed by another version"));
        }
        let path = SignedPath::of(&service, host);
        Ok(AwsRequest { regions, service, signed, place, path, payload })
    }

    /// The parameters for a request that the agent did not sign: region and service of the connection, or else of the
    /// host.
    fn unsigned(&self, host: &str) -> Result<AgentSignature, SignError> {
        let (signed, place) = (Vec::new(), SignaturePlace::Header);
        if let Some(service) = multi_region_service(host) {
            let (regions, service) = (Regions::Set("*".into()), service.into());
            return Ok(AgentSignature { regions, service, signed, place });
        }
        let named = scope_of(host);
        let region = self.region.as_deref().or(named.map(|(region, _)| region));
        let service = self.service.as_deref().or(named.map(|(_, service)| service));
        let (Some(region), Some(service)) = (region, service) else {
            return Err(SignError::NoScope);
        };
        let (regions, service) = (Regions::One(region.into()), service.into());
        Ok(AgentSignature { regions, service, signed, place })
    }

    /// Signs a request of an agent.
    ///
    /// # Errors
    /// When a field cannot be signed, or the answer would contain credentials.
    pub fn sign(
        &self,
        plan: &AwsRequest,
        request: Unsigned<'_>,
    ) -> Result<SignedAwsRequest, SignError> {
        aws_action::check(&plan.service, &request)?;
        self.sign_own(plan, request)
    }

    /// Signs a request of Keyward itself, whose answer no agent gets.
    ///
    /// # Errors
    /// When a field cannot be signed.
    pub fn sign_own(
        &self,
        plan: &AwsRequest,
        request: Unsigned<'_>,
    ) -> Result<SignedAwsRequest, SignError> {
        match &plan.regions {
            Regions::One(region) => self.sign_in_region(plan, region, request),
            Regions::Set(regions) => aws_ecdsa::sign(&self.credentials()?, plan, regions, request),
        }
    }

    fn sign_in_region(
        &self,
        plan: &AwsRequest,
        region: &str,
        request: Unsigned<'_>,
    ) -> Result<SignedAwsRequest, SignError> {
        let time = SystemTime::from(match plan.place {
            SignaturePlace::Header => request.now,
            SignaturePlace::Query { date, .. } => date,
        });
        let payload = plan.payload.value(request.body);
        let uri = format!("https://{}{}", request.authority, plan.path.target(request.path));
        let covered = plan.covered(request.fields, request.authority)?;
        let covered = covered.iter().map(|(name, value)| (name.as_str(), &**value));
        let body = SignableBody::Precomputed(payload.into_owned());
        let signable = SignableRequest::new(request.method, uri, covered, body);
        let identity = self.credentials()?.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(&plan.service)
            .time(time)
            .settings(plan.settings())
            .build()
            .map_err(|_| SignError::Unsignable)?
            .into();
        let signed = http_request::sign(signable.map_err(|_| SignError::Unsignable)?, &params);
        let (instructions, signature) = signed.map_err(|_| SignError::Unsignable)?.into_parts();
        for (name, value) in instructions.headers() {
            let name =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| SignError::Unsignable)?;
            let mut value = HeaderValue::from_str(value).map_err(|_| SignError::Unsignable)?;
            value.set_sensitive(name != CONTENT_SHA256 && name != DATE);
            request.fields.insert(name, value);
        }
        let path = (!instructions.params().is_empty())
            .then(|| with_parameters(request.path, instructions.params()));
        let chunks = match plan.payload {
            AwsPayload::Chunks { trailer } => {
                let (key, scope) = self.chunk_key(region, &plan.service, time)?;
                let date = Timestamp::try_from(time).map_err(|_| SignError::Unsignable)?;
                Some(ChunkSigner::new(ChunkKey::Hmac(key), stamp(date), scope, signature, trailer))
            }
            _ => None,
        };
        Ok(SignedAwsRequest { path, chunks })
    }

    /// The key that signs chunks, and its scope.
    fn chunk_key(
        &self,
        region: &str,
        service: &str,
        time: SystemTime,
    ) -> Result<(Zeroizing<Vec<u8>>, String), SignError> {
        let secret = self.secret_access_key.expose_text().ok_or(SignError::Unsignable)?;
        let key = v4::generate_signing_key(secret, time, region, service);
        let time = Timestamp::try_from(time).map_err(|_| SignError::Unsignable)?;
        let scope = format!("{}/{region}/{service}/aws4_request", time.strftime("%Y%m%d"));
        Ok((Zeroizing::new(key.as_ref().to_vec()), scope))
    }

    pub(super) fn credentials(&self) -> Result<Credentials, SignError> {
        let text = |secret: &Secret| secret.expose_text().map(str::to_owned);
        let (id, key) = (text(&self.access_key_id), text(&self.secret_access_key));
        let (Some(id), Some(key)) = (id, key) else { return Err(SignError::Unsignable) };
        let token = match &self.session_token {
            Some(token) => Some(text(token).ok_or(SignError::Unsignable)?),
            None => None,
        };
        Ok(Credentials::new(id, key, token, None, "keyward"))
    }
}

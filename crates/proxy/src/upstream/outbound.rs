//! [`Outbound`]: a request that may be sent to the upstream. It is made from an admitted request, and only this type
//! is sent.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode, Version};
use http_body::Body;

use super::head::{ChangedHead, HeadChanges};
use super::lease::StreamLease;
use super::plan::{AskedProtocol, Plaintext, SendPlan};
use super::retries::Retries;
use super::sent::{Challenged, SentRequest};
use super::signing::{SignedUri, Signing};
use super::{binds_identity, body_injection, check_head, keep_alive, protocol, with_stream};
use crate::authorize::connection_limits::Admitted;
use crate::body::request_body::RequestBody;
use crate::body::transforms::{FormFault, TrailerFilter};
use crate::gateway::{Core, Gateway};
use crate::pool::PoolKey;
use crate::pool::interim::Interim;
use crate::refusal::Refusal;
use crate::request::agent_upgrade::AgentUpgrade;
use crate::request::inbound::Inbound;
use crate::sockets::copy::stalled;
use crate::sockets::watchdog::Watchdog;
use keyward_base::host::{Scheme, Target};
use keyward_base::id::OrgId;
use keyward_base::limits::ReceiveWindow;
use keyward_base::pattern::DecodedPath;
use keyward_base::secret::Secret;
use keyward_base::settings::{Settings, Wait};
use keyward_rules::inject::body::BodyPath;
use keyward_rules::inject::credential::{Credential, Write};
use keyward_rules::inject::scrub::range::AskedPart;
use keyward_rules::inject::scrub::{Needles, request_fields};
use keyward_rules::inject::write::WriteError;

/// A request that may be sent. Made only by [`Outbound::prepare`].
#[must_use]
#[derive(Debug)]
pub struct Outbound {
    /// The request, in origin form.
    request: Box<Request<RequestBody>>,
    /// The key of the streams that it may use.
    key: PoolKey,
    plaintext: Plaintext,
    /// The agent's side of a WebSocket handshake or another upgrade.
    upgrade: Option<AgentUpgrade>,
    /// Whether the request may be sent once more when a reused stream ends without an answer (RFC 9110 §9.2.2).
    repeatable: bool,
    /// Whether the agent speaks HTTP/2 and the request can be sent over HTTP/2.
    http2: bool,
    /// The window of its answer, over HTTP/2.
    window: ReceiveWindow,
    credential: Option<Arc<Credential>>,
    /// The timeout for the head of the answer.
    timeout: Duration,
    retries: Option<Arc<Retries>>,
    /// Whether the credential waits for the host's challenge and is not in the request.
    awaits_challenge: bool,
    part: AskedPart,
    /// The agent's stream, for interim answers.
    stream: Option<Arc<Watchdog>>,
}

impl Outbound {
    /// Strips, clears, writes the credential, and sets the authority and `Host` from the permit. `retries`: the
    /// attempts that this is one of.
    ///
    /// # Errors
    /// When the credential does not fit the request, or the body for it does not arrive.
    pub async fn prepare(
        gateway: &Gateway,
        admitted: Admitted,
        retries: Option<&Arc<Retries>>,
    ) -> Result<Self, Refusal> {
        let (mut inbound, permit, mut credential) = admitted.into_permitted().into_parts();
        if !inbound.body.is_end_stream() {
            inbound.body.filter_trailers(TrailerFilter::of(&permit, credential.as_ref()));
        }
        let target = permit.target().clone();
        let (org, session) = (inbound.org().clone(), inbound.session());
        let settings = permit.settings().map(|settings| &**settings);
        let upgrade =
            inbound.take_upgrade().map(|it| it.permitted(settings)).transpose()?.flatten();
        let writes = writes(credential.as_deref(), &target, inbound.policy_request().path)?;
        let signing = Signing::read(credential.as_deref(), &target, &inbound)?;
        let (head, agent) = inbound.head_and_agent();
        let changes = HeadChanges {
            target: &target,
            credential: credential.as_deref(),
            writes,
            settings,
            upgrade: upgrade.as_ref().map(|upgrade| upgrade.stream.asked()),
            decoders: &gateway.decoders,
            agent,
        };
        let ChangedHead { uri, part } = changes.apply(head)?;
        if body_injection::is_wanted(writes) {
            let inject = body_injection::write(gateway, &mut inbound, writes, signing.as_ref());
            Box::pin(inject).await?;
        } else if let Some(repeats) = repeats(credential.as_deref()) {
            Box::pin(body_injection::remove_repeats(gateway, &mut inbound, repeats)).await?;
        }
        let signed = match signing {
            Some(signing) => Box::pin(signing.sign(gateway, &target, &mut inbound, uri)).await?,
            None => SignedUri { uri, awaits_challenge: false, token: None },
        };
        let fields = &mut inbound.head.headers;
        let part = search_for(signed.token.as_ref(), &mut credential, part, fields);
        let (repeatable, window) = (inbound.is_idempotent(), inbound.window());
        let Inbound { mut head, body, stream, .. } = *inbound;
        let http2 = head.version == Version::HTTP_2 && upgrade.is_none();
        (head.uri, head.version) = (signed.uri, Version::HTTP_11);
        Ok(Self {
            request: Box::new(Request::from_parts(head, body)),
            key: pool_key(org, target, session, credential.as_deref()),
            plaintext: Plaintext::of(&permit, credential.is_some()),
            upgrade,
            repeatable,
            http2,
            window,
            credential,
            timeout: retries.map_or_else(|| answer_timeout(gateway, settings), |it| it.left()),
            retries: retries.cloned(),
            awaits_challenge: signed.awaits_challenge,
            part,
            stream,
        })
    }

    /// Sends the request and waits for the head of the answer.
    ///
    /// # Errors
    /// When there is no checked, verified stream, or the answer is invalid.
    pub fn send(self, core: &Arc<Core>) -> impl Future<Output = Result<SentRequest, Refusal>> {
        let Self { mut request, upgrade, credential, timeout, window, .. } = self;
        let Self {
            key, plaintext, repeatable, http2, retries, awaits_challenge, part, stream, ..
        } = self;
        let asked_protocol = match (http2, &upgrade) {
            (true, _) => AskedProtocol::Http2,
            (false, None) => AskedProtocol::Http1,
            (false, Some(_)) => AskedProtocol::Upgrade,
        };
        let authority = signed_authority(&key, credential.as_deref());
        let is_verified = key.target.scheme() == Scheme::Https;
        let (uploaded, taken) = (request.body().count(), request.body_mut().count_taken());
        let fault = request.body().form_fault();
        let interim_max = core.gateway.limits.interim_answers_max;
        let gate = request.body().gate();
        let interim = Interim::new(gate, interim_max, stream, credential.clone());
        // On the heap: three futures pass it on, and each has room for two.
        let plan = Box::new(SendPlan {
            key,
            tls: credential.as_ref().and_then(|credential| credential.tls.clone()),
            plaintext,
            repeatable,
            protocol: asked_protocol,
            window,
            interim: interim.clone(),
            timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
            retries,
        });
        // A block with what is left, so that the future has no room for the whole request.
        async move {
            // The time to the answer's head counts from the last byte of the upload: received, or taken for the upstream.
            let uploads = [&*uploaded, taken.as_deref().unwrap_or(&uploaded)];
            // Pinned here: `select!` would move it.
            let mut answered = pin!(with_stream(core, request, plan));
            let (mut lease, response): (StreamLease, _) = tokio::select! {
                biased;
                () = interim.flooded() => {
                    return Err(protocol("it sends too many interim answers"));
                }
                result = answered.as_mut() => {
                    result.map_err(|refusal| of_form(fault.as_deref()).unwrap_or(refusal))?
                }
                () = stalled(&uploads, timeout) => return Err(Refusal::AnswerTimeout),
            };
            (lease.gate, lease.fault) = (interim.gate(), fault);
            lease.reusable = !binds_identity(&response);
            lease.set_keep_alive(keep_alive(response.headers()));
            check_head(&response, upgrade.as_ref().map(|upgrade| &upgrade.stream))?;
            let sent = SentRequest::new(response, lease, upgrade, credential).for_part(part);
            let Some(authority) = authority else { return Ok(sent) };
            if is_verified && may_be_of_clock(sent.status()) {
                core.gateway.vault.refresh().learn_clock(&authority, sent.headers());
            }
            Ok(sent.challenged(Challenged { authority, awaits_challenge }))
        }
    }
}

/// The streams that the request may use: without a credential only those of its session.
fn pool_key(org: OrgId, target: Target, session: u64, credential: Option<&Credential>) -> PoolKey {
    let tls = credential.and_then(|credential| Some(credential.tls.as_ref()?.id()));
    PoolKey { org, target, session: credential.is_none().then_some(session), tls }
}

/// Adds the token of this request to what its answer is searched for, and widens its range accordingly.
fn search_for(
    token: Option<&Secret>,
    credential: &mut Option<Arc<Credential>>,
    part: AskedPart,
    fields: &mut HeaderMap,
) -> AskedPart {
    let (Some(token), Some(sent)) = (token, credential) else { return part };
    let needles = sent.needles.and(&Needles::new([token], []));
    let margin = needles.longest() as u64;
    let needles = Arc::new(needles);
    *sent = Arc::new(Credential { needles, ..Credential::clone(sent) });
    request_fields::with_margin(fields, part, margin)
}

/// What ended the upload of a form, if that was its content.
fn of_form(fault: Option<&FormFault>) -> Option<Refusal> {
    Some(WriteError::from(fault?.get()?.clone()).into())
}

/// The timeout for the head of the answer: the connection's, or that of the limits.
fn answer_timeout(gateway: &Gateway, settings: Option<&Settings>) -> Duration {
    let own = settings.and_then(|settings| settings.timeout);
    own.map_or(gateway.limits.answer_timeout, Wait::duration)
}

/// Host and port, if the credential signs requests: it answers their challenges, or dates its signatures by their clock.
fn signed_authority(key: &PoolKey, credential: Option<&Credential>) -> Option<Box<str>> {
    credential?.signer.as_ref()?;
    Some(key.target.authority().to_string().into())
}

/// Whether a signed request may have been refused for its date.
fn may_be_of_clock(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// The writes of the credential for this target and path.
fn writes<'a>(
    credential: Option<&'a Credential>,
    target: &Target,
    path: &DecodedPath,
) -> Result<&'a [Write], WriteError> {
    let Some(credential) = credential else { return Ok(&[]) };
    let mut writes = credential.writes.iter();
    let scoped = writes.find(|scoped| scoped.matches(target, path));
    scoped.map(|scoped| &*scoped.what).ok_or(WriteError::NoPlace)
}

/// Members of bodies where programs repeat the key of the credential; `None` for none.
fn repeats(credential: Option<&Credential>) -> Option<&[BodyPath]> {
    credential.map(|it| &*it.clears.repeats).filter(|repeats| !repeats.is_empty())
}

//! Handles the OAuth callback. Nine rules, in this order; no token request before the eighth:
//!
//! 1. `state`, `code`, `iss` and `error` appear at most once, in at most 8 KiB.
//! 2. The flow is found by the hash of `state`, which is deleted; it has not expired. Without `state`, the flow of the browser
//!    ends: its consent will not be answered again.
//! 3. The app of the path is the flow's.
//! 4. The browser is the one that started the flow.
//! 5. `iss` is the server of the request (RFC 9207), compared byte by byte; for errors too.
//! 6. An `error` ends the flow, with a message of ours.
//! 7. There is a `code`; in OAuth 1.0a a verifier, for the temporary credentials of this flow.
//! 8. It is exchanged once, in a task that a closed browser does not end (RFC 6749 §4.1.2).
//! 9. The grant is durable before the browser is redirected to a page without the code in its address.

use std::sync::Arc;

use super::Flows;
use super::callback_query::CallbackQuery;
use super::error::CallbackRefusal;
use super::flow::{CallbackExpectation, Flow, FlowStage, SealedText, StoredFlow, flow_of_cookie};
use super::oauth1;
use crate::grant::oauth::ErrorCode;
use futures_util::FutureExt;
use keyward_base::id::{FlowId, OrgId};
use keyward_state::store::Lease;

/// Most flows of a browser that are looked for without `state`.
const FLOWS_OF_BROWSER_MAX: usize = 20;

/// The cookies of a request, as they were sent: names may repeat.
#[derive(Default)]
pub struct Cookies(pub Vec<(String, String)>);

/// The request of a browser at the callback.
pub struct CallbackRequest<'a> {
    /// The app's id in the path.
    pub app: &'a str,
    /// The raw query.
    pub query: &'a str,
    pub cookies: &'a Cookies,
}

impl Cookies {
    /// The value of a cookie; `None` if it is sent twice, so that a planted cookie has no effect.
    pub fn one(&self, name: &str) -> Option<&str> {
        let mut named = self.0.iter().filter(|(known, _)| known == name);
        let (_, value) = named.next()?;
        named.next().is_none().then_some(value)
    }
}

/// A flow whose `state` was used.
struct ConsumedFlow {
    flow: Flow,
    asked: CallbackExpectation,
    /// The lease of the flow, held until the flow has ended.
    lease: Lease,
}

impl Flows {
    /// Completes the flow of a browser at the callback. Returns the flow, whose page shows the result; after
    /// `exchange_timeout` also if there is none yet, because proxies end requests that take minutes.
    ///
    /// # Errors
    /// When a check fails: then nothing is connected, and up to rule 7 no request was sent.
    pub async fn callback(
        self: &Arc<Self>,
        org: &OrgId,
        back: &CallbackRequest<'_>,
    ) -> Result<FlowId, CallbackRefusal> {
        let callback = CallbackQuery::read(back.query)?;
        let state = match callback.required_state() {
            Ok(state) => state,
            Err(refusal) => return Err(self.without_state(org, back, &callback, refusal).await),
        };
        let consumed = self.consume(org, state).await?;
        let checked = check(&consumed.flow, &consumed.asked, back, &callback);
        let (flows, id) = (Arc::clone(self), consumed.flow.id.clone());
        // As a flight, which neither a closed browser nor a stopping process ends: the code is spent, and its tokens
        // must be stored.
        let work = async move {
            let ConsumedFlow { flow, asked, lease } = consumed;
            let finished = async {
                let done = match checked {
                    Ok(code) => Box::pin(flows.finish(&flow, asked, code, callback)).await,
                    Err(refusal) => Err(flows.declined(&flow, refusal).await),
                };
                if let Err(refusal) = &done {
                    flows.note_failure(&flow, &refusal.to_string()).await;
                }
                done
            };
            flows.renewing(&lease, finished.boxed()).await
        };
        let work = self.vault.refresh().spawn_as_flight(work);
        match tokio::time::timeout(self.settings.load().exchange_timeout, work).await {
            Ok(done) => done.unwrap_or(Err(CallbackRefusal::Internal))?,
            Err(_) => {
                tracing::info!(flow = %id, "the answer to a consent is late: it is awaited");
            }
        }
        Ok(id)
    }

    /// Rule 2: takes the flow by the hash of `state`, which is deleted.
    async fn consume(&self, org: &OrgId, state: &str) -> Result<ConsumedFlow, CallbackRefusal> {
        let hash = super::flow::CookieDigest::of(state);
        let (pointer, _) =
            self.states.get(org, hash.as_str()).await?.ok_or(CallbackRefusal::NoFlow)?;
        // The lease is taken first, because a flow in exchange without a lease counts as interrupted. If another task
        // holds the lease, it handles the same callback.
        let lease = self.lease_of(&pointer.flow).await?.ok_or(CallbackRefusal::NoFlow)?;
        let pointer = self.states.take(org, hash.as_str()).await?.ok_or(CallbackRefusal::NoFlow)?;
        let found = self.flows.get(org, pointer.flow.as_str()).await?;
        let (mut flow, version) = found.ok_or(CallbackRefusal::NoFlow)?;
        let FlowStage::AtProvider(asked) =
            std::mem::replace(&mut flow.stage, FlowStage::Exchanging)
        else {
            return Err(CallbackRefusal::NoFlow);
        };
        if self.clock.now() >= flow.expires {
            return Err(CallbackRefusal::NoFlow);
        }
        flow.session = Some(asked.session.clone());
        self.flows.put(org, flow.id.as_str(), &flow, Some(version)).await?;
        Ok(ConsumedFlow { flow, asked, lease })
    }

    /// Ends the flow of a browser that came back without `state`, as it does from some error pages, so that a person who waits
    /// for it elsewhere sees the reason. Its cookie identifies it, if the browser has no other one at this app.
    async fn without_state(
        self: &Arc<Self>,
        org: &OrgId,
        back: &CallbackRequest<'_>,
        callback: &CallbackQuery,
        refusal: CallbackRefusal,
    ) -> CallbackRefusal {
        let mut of_browser = Vec::new();
        let ids = back.cookies.0.iter().filter_map(|(name, _)| flow_of_cookie(name));
        for id in ids.take(FLOWS_OF_BROWSER_MAX) {
            let Ok(Some((flow, version))) = self.flows.get(org, id.as_str()).await else {
                continue;
            };
            let FlowStage::AtProvider(asked) = &flow.stage else { continue };
            let checked = check(&flow, asked, back, callback);
            let is_other =
                matches!(checked, Err(CallbackRefusal::OtherApp | CallbackRefusal::OtherBrowser));
            if !is_other && self.clock.now() < flow.expires {
                of_browser.push((StoredFlow { flow, version }, checked));
            }
        }
        let Ok([(stored, checked)]) = <[_; 1]>::try_from(of_browser) else { return refusal };
        let refusal = match checked {
            Err(declined @ CallbackRefusal::Declined(_)) => declined,
            _ => refusal,
        };
        let flow = stored.flow.id.clone();
        if let Err(error) = self.end(stored, &refusal.to_string()).await {
            tracing::info!(%flow, %error, "a consent without `state` is not ended");
        }
        refusal
    }

    /// Rules 8 and 9.
    async fn finish(
        self: &Arc<Self>,
        flow: &Flow,
        asked: CallbackExpectation,
        code: SealedText,
        callback: CallbackQuery,
    ) -> Result<(), CallbackRefusal> {
        let captured = self.captured(flow, &callback)?;
        let received = self.exchange(flow, &asked, &code, captured).await;
        let received = received.map_err(CallbackRefusal::of_exchange)?;
        self.complete(flow, received).await.map_err(CallbackRefusal::of_exchange)
    }
}

/// Rules 3 to 7. Returns the code.
fn check(
    flow: &Flow,
    asked: &CallbackExpectation,
    back: &CallbackRequest<'_>,
    callback: &CallbackQuery,
) -> Result<SealedText, CallbackRefusal> {
    if flow.app.as_str() != back.app {
        return Err(CallbackRefusal::OtherApp);
    }
    let cookie = back.cookies.one(&flow.cookie());
    if !cookie.is_some_and(|cookie| asked.session.is_of(cookie)) {
        return Err(CallbackRefusal::OtherBrowser);
    }
    // RFC 9207: by simple string comparison, also for errors.
    let same = match (&callback.iss, &asked.issuer) {
        (Some(iss), Some(issuer)) => iss == issuer,
        // There is no known issuer to compare it with.
        (Some(_), None) => true,
        (None, _) => !asked.issuer_announced,
    };
    if !same {
        return Err(CallbackRefusal::OtherServer);
    }
    if let Some(error) = &callback.error {
        let description = callback.other("error_description");
        return Err(CallbackRefusal::Declined(ErrorCode::received(error, description)));
    }
    if let Some(temporary) = &asked.temporary {
        return oauth1::verifier(temporary, callback);
    }
    match &callback.code {
        Some(code) if !code.is_empty() => Ok(SealedText::new(code.as_str())),
        _ => Err(CallbackRefusal::NoCode),
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::super::flow::CookieDigest;
    use super::*;
    use keyward_base::id::{AppId, ConnectionId};

    struct Case {
        flow: Flow,
        asked: CallbackExpectation,
        app: String,
        cookies: Cookies,
        query: &'static str,
    }

    fn case(query: &'static str) -> Case {
        let now = Timestamp::UNIX_EPOCH;
        let flow = Flow {
            id: FlowId::random(),
            org: OrgId::default_org(),
            person: "operator".to_owned(),
            connection: ConnectionId::random(),
            app: AppId::random(),
            scopes: vec![],
            stepped_up: false,
            created: now,
            expires: now + SignedDuration::from_secs(600),
            cookie: None,
            session: None,
            held: false,
            stage: FlowStage::Exchanging,
        };
        let asked = CallbackExpectation {
            session: CookieDigest::of("cookie"),
            verifier: None,
            redirect_uri: String::new(),
            client_id: None,
            issuer: Some("https://auth.acme.test".to_owned()),
            issuer_announced: true,
            temporary: None,
        };
        let cookies = Cookies(vec![(flow.cookie(), "cookie".to_owned())]);
        Case { app: flow.app.to_string(), flow, asked, cookies, query }
    }

    fn checked(case: &Case) -> Result<String, CallbackRefusal> {
        let back = CallbackRequest { app: &case.app, query: case.query, cookies: &case.cookies };
        let callback = CallbackQuery::read(case.query)?;
        check(&case.flow, &case.asked, &back, &callback).map(|code| code.text().to_owned())
    }

    const GOOD: &str = "code=c&state=s&iss=https://auth.acme.test";

    /// oauth 2.3
    #[test]
    fn the_callback_of_another_app_is_refused() {
        let mut case = case(GOOD);
        case.app = AppId::random().to_string();
        assert!(matches!(checked(&case), Err(CallbackRefusal::OtherApp)));
    }

    /// oauth 2.4
    #[test]
    fn another_browser_is_refused_and_so_are_two_cookies() {
        let mut case = case(GOOD);
        let cookie = case.flow.cookie();
        for cookies in [
            vec![],
            vec![(cookie.clone(), "other".to_owned())],
            vec![(cookie.clone(), "cookie".to_owned()), (cookie, "cookie".to_owned())],
            vec![("keyward_flw_other".to_owned(), "cookie".to_owned())],
        ] {
            case.cookies = Cookies(cookies);
            assert!(matches!(checked(&case), Err(CallbackRefusal::OtherBrowser)));
        }
        // A flow that is bound by the cookie of a connect session has no other one.
        case.cookies = Cookies(vec![(case.flow.cookie(), "cookie".to_owned())]);
        case.flow.cookie = Some("keyward-connect".to_owned());
        assert!(matches!(checked(&case), Err(CallbackRefusal::OtherBrowser)));
        case.cookies = Cookies(vec![("keyward-connect".to_owned(), "cookie".to_owned())]);
        assert_eq!(checked(&case).ok().as_deref(), Some("c"));
    }

    /// oauth 2.5
    #[test]
    fn an_answer_of_another_server_is_refused_before_its_error_is_read() {
        for query in [
            "code=c&state=s&iss=https://auth.acme.test/",
            "code=c&state=s&iss=https://AUTH.acme.test",
            "code=c&state=s",
            "error=access_denied&state=s&iss=https://evil.test",
            "error=access_denied&state=s",
        ] {
            assert!(matches!(checked(&case(query)), Err(CallbackRefusal::OtherServer)), "{query}");
        }
        let mut silent = case("code=c&state=s");
        silent.asked.issuer_announced = false;
        assert_eq!(checked(&silent).ok().as_deref(), Some("c"), "not announced, and missing");
        silent.query = "code=c&state=s&iss=https://evil.test";
        assert!(
            matches!(checked(&silent), Err(CallbackRefusal::OtherServer)),
            "compared all the same"
        );
        silent.asked.issuer = None;
        assert!(checked(&silent).is_ok(), "nobody to compare with");
    }

    /// oauth 2.6, 2.7
    #[test]
    fn an_error_takes_precedence_over_a_code_and_a_missing_code_is_refused() {
        let declined =
            checked(&case("error=access_denied&code=c&state=s&iss=https://auth.acme.test"));
        assert!(
            matches!(declined, Err(CallbackRefusal::Declined(code)) if code.as_str() == "access_denied")
        );
        for query in
            ["state=s&iss=https://auth.acme.test", "code=&state=s&iss=https://auth.acme.test"]
        {
            assert!(matches!(checked(&case(query)), Err(CallbackRefusal::NoCode)), "{query}");
        }
        assert_eq!(checked(&case(GOOD)).ok().as_deref(), Some("c"));
    }
}

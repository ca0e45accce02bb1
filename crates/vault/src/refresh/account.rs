//! Determines the account of a grant, with the provider's own test request. This works for grants that are not in force
//! yet, which no agent can use. The request takes the route of token requests.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Uri};

use super::Refresh;
use crate::context::method;
use crate::grant::{Grant, MintContext};
use keyward_base::host::{Scheme, Target};
use keyward_base::pattern::DecodedPath;
use keyward_net::call::Bounds;
use keyward_net::tls::ClientIdentity;
use keyward_rules::inject::credential::{Credential, Write};
use keyward_rules::inject::placement::Location;
use keyward_rules::inject::write::{self, RequestHead};
use keyward_rules::provider::TestRequest;
use keyward_state::directory::ConnectionRecord;
use keyward_state::store::Version;

/// Longest account name that is stored, in characters.
const NAME_CHARS_MAX: usize = 128;

impl Refresh {
    /// The account of `grant`, from the response to the provider's test request. `connection` need not be
    /// stored. `None`: there is no test request, or its response names no account or is an error, which is
    /// logged.
    pub async fn tested_account(
        &self,
        connection: &ConnectionRecord,
        grant: &Grant,
    ) -> Option<String> {
        match self.asked_for_account(connection, grant).await {
            Ok(account) => account,
            Err(why) => {
                tracing::info!(connection = %connection.id, why, "the account of a connection is unknown");
                None
            }
        }
    }

    async fn asked_for_account(
        &self,
        connection: &ConnectionRecord,
        grant: &Grant,
    ) -> Result<Option<String>, String> {
        let catalogue = self.context.catalogue(&connection.org);
        let found = method(&catalogue, &connection.provider, connection.auth.as_deref());
        let (provider, auth) = found.map_err(|error| error.to_string())?;
        let shown = grant.shown_fields(auth);
        let request = provider.test_request(auth, &connection.host_variables(), &shown);
        let request = request.map_err(|error| error.to_string())?;
        let Some(request) = request.filter(|request| request.expected.reads_account()) else {
            return Ok(None);
        };
        let credential = self.trial(connection, grant).await?;
        if credential.signer.is_some() {
            return Err("its test request must be signed, which only the proxy does".to_owned());
        }
        let (by, settings) = (self.caller(), self.context.token_settings());
        let by = by.ok_or("this process sends no requests")?;
        let expected = request.expected.clone();
        let bounds = Bounds::of_tokens(&settings).within(settings.account_timeout);
        let identity = credential.tls.as_ref().and_then(|tls| tls.identity.as_ref());
        let identity = identity.map(|(chain, key)| ClientIdentity::from_pem(chain, key));
        let identity = identity.transpose().map_err(|error| error.to_string())?;
        let request = prepared(request, &credential)?;
        let answer = by.call_as(identity.as_ref(), request, &bounds).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let (status, body) = (answer.status().as_u16(), answer.body());
        let good =
            expected.accepts_status(status) && (!expected.reads_body() || expected.is_met_by(body));
        if !good {
            return Err(format!("the test request is answered with {status}"));
        }
        let name = expected.account(body).filter(|name| !name.chars().any(char::is_control));
        let name = name.filter(|name| !credential.needles.are_in(name.as_bytes()));
        Ok(name.map(|name| name.chars().take(NAME_CHARS_MAX).collect()))
    }

    /// The credential of the grant, for this request only.
    async fn trial(
        &self,
        connection: &ConnectionRecord,
        grant: &Grant,
    ) -> Result<Credential, String> {
        let token_context =
            self.guarded_token_context(connection).await.map_err(|error| error.to_string())?;
        let client = crate::grant::oauth::OAuthClient::default();
        let context = MintContext {
            connection: &connection.id,
            generation: Version::default().0,
            instance: token_context.instance(),
            ask: token_context.ask(&client, self.clock.now()),
            client_secret: token_context.client_secret(),
            client_id: token_context.client_id(),
        };
        let minted = grant.ready(&context).map_err(|error| error.to_string())?;
        let credential = minted.ok_or("its token has ended")?.credential;
        let tls = || token_context.client_tls(&connection.id).map(Arc::new);
        Ok(Credential { tls: credential.tls.clone().or_else(tls), ..credential })
    }
}

/// The test request, with the credential in the placements for its host and path.
fn prepared(test: TestRequest, credential: &Credential) -> Result<Request<Bytes>, String> {
    let unfit = || "the test request cannot carry the credential".to_owned();
    let TestRequest { method, uri, headers, body, .. } = test;
    let authority = uri.authority().ok_or_else(unfit)?.as_str().to_owned();
    let target = Target::parse(Scheme::Https, &authority).map_err(|_| unfit())?;
    let path = DecodedPath::parse(uri.path()).map_err(|_| unfit())?;
    let scoped = credential.writes.iter().find(|scoped| scoped.matches(&target, &path));
    let writes: &[Write] = &scoped.ok_or_else(unfit)?.what;
    if writes.iter().any(|write| matches!(write.at, Location::Body(_))) {
        return Err(unfit());
    }
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.headers_mut() = headers;
    let mut head = RequestHead {
        fields: request.headers_mut(),
        path: uri.path().to_owned().into(),
        query: uri.query().map(|query| query.to_owned().into()),
    };
    write::credential(&mut head, writes).map_err(|error| error.to_string())?;
    let query = head.query.as_deref().map(|query| format!("?{query}")).unwrap_or_default();
    let whole = format!("https://{authority}{}{query}", head.path);
    *request.uri_mut() = whole.parse::<Uri>().map_err(|_| unfit())?;
    Ok(request)
}

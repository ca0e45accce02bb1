//! PostgreSQL, version 3.0 of its protocol. `serve` is the spine of a session; each stage has a file.

pub mod cancel;
mod channel_binding;
#[cfg(test)]
mod hostile;
mod login;
mod messages;
mod parameters;
mod read_only;
mod refused;
mod startup;
pub mod test;
mod upstream;

use std::io;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;

use self::cancel::CancelKey;
use self::login::{LoggedIn, Login};
use self::messages::SessionStart;
use self::parameters::StartupParameters;
use self::read_only::filter::Kept;
use self::refused::Refused;
use self::startup::{ALPN, FirstMessage, Malformed, Startup};
use self::upstream::Upstream;
use crate::choice::{Named, choose};
use crate::listener::DatabaseListener;
use keyward_base::agent::Agent;
use keyward_proxy::{ServiceExchange, ServiceStream};

/// The answer to a stream above the limit: `FATAL`, SQLSTATE 53300, "too many open streams".
pub const OVERLOADED: &[u8] =
    b"E\0\0\0\x47SFATAL\0VFATAL\0C53300\0Mkeyward: too many open streams, retry later\0\0";

/// A session that is logged in at the server.
struct OpenSession {
    exchange: ServiceExchange,
    upstream: Upstream,
    start: SessionStart,
    cancel: CancelKey,
    /// What a read-only session keeps; `None` for one that may write.
    kept: Option<Kept>,
}

/// Serves one stream of a listener until it ends.
pub async fn serve(listener: Arc<DatabaseListener>, stream: ServiceStream) {
    let (gateway, place) = (stream.gateway.clone(), stream.place());
    let greeted = ServiceStream::while_unauthenticated(&gateway, &place, greeted(stream)).await;
    match greeted.flatten() {
        Some((stream, FirstMessage::Startup(startup))) => {
            session(&listener, stream, startup).await;
        }
        Some((_, FirstMessage::Cancel(key))) => listener.cancels().cancel(&gateway, key).await,
        // It sent nothing in time or nothing that is understood, or had to make room.
        Some((_, FirstMessage::Tls)) | None => {}
    }
}

/// The client's first message, within TLS if it wants that.
async fn greeted(mut stream: ServiceStream) -> Option<(ServiceStream, FirstMessage)> {
    if stream.begins_with_tls().await {
        stream = stream.with_tls(ALPN).await?;
    }
    let offers_tls = stream.offers_tls();
    let mut first = startup::read(stream.socket(), offers_tls).await;
    if matches!(first, Ok(FirstMessage::Tls)) {
        stream = stream.with_tls(ALPN).await?;
        first = startup::read(stream.socket(), false).await;
    }
    let malformed = match first {
        Ok(FirstMessage::Startup(_)) if !stream.is_confidential() => Malformed::Cleartext,
        Ok(first) => return Some((stream, first)),
        Err(malformed) => malformed,
    };
    tracing::debug!(%malformed, "a client of a database listener sent no start-up message");
    send_last(&mut stream, &Refused::from(malformed).bytes(None)).await;
    None
}

async fn session(listener: &DatabaseListener, mut stream: ServiceStream, startup: Startup) {
    let mut exchange = match stream.begin().await {
        Ok(exchange) => exchange,
        Err(refusal) => return send_last(&mut stream, &Refused::from(refusal).bytes(None)).await,
    };
    let opened = match authenticated(&mut stream, &mut exchange, &startup).await {
        Ok(agent) => opened(listener, &mut exchange, &agent, startup).await,
        Err(refused) => Err(refused),
    };
    let (upstream, logged_in) = match opened {
        Ok(opened) => opened,
        Err(refused) => {
            if let Some(code) = refused.code() {
                exchange.refused_by_protocol(code);
            }
            let bytes = refused.bytes(Some(exchange.id()));
            return send_last(&mut stream, &bytes).await;
        }
    };
    let LoggedIn { start, permit, server_key } = logged_in;
    let kept = parameters::kept(&permit);
    let cancel = listener.cancels().enter(permit, server_key);
    OpenSession { exchange, upstream, start, cancel, kept }.run(stream).await;
}

/// The agent of the stream: that of the listener, or that of the token in the password message.
async fn authenticated(
    stream: &mut ServiceStream,
    exchange: &mut ServiceExchange,
    startup: &Startup,
) -> Result<Agent, Refused> {
    let token = match stream.is_owned() {
        true => None,
        false => {
            let (gateway, place) = (stream.gateway.clone(), stream.place());
            let asked = startup::password(stream.socket(), startup);
            let given = ServiceStream::while_unauthenticated(&gateway, &place, asked).await;
            Some(given.unwrap_or(Err(Malformed::Silent))?)
        }
    };
    let token = token.as_ref().map(|token| token.as_str());
    Ok(exchange.authenticate(token)?)
}

/// Logs in at the server of the connection that the agent means.
async fn opened(
    listener: &DatabaseListener,
    exchange: &mut ServiceExchange,
    agent: &Agent,
    startup: Startup,
) -> Result<(Upstream, LoggedIn), Refused> {
    let mut choices = exchange.databases(agent);
    if let Some(only) = listener.connection() {
        choices.retain(|choice| *choice.name == *only);
    }
    let named = Named { database: startup.database(), user: startup.user() };
    let connection = choose(&choices, named).map_err(Refused::Keyward)?;
    let (permit, credential) = exchange.permit(agent, &connection).await?;
    let negotiation = startup.negotiation().filter(|_| exchange.is_owned());
    let parameters = StartupParameters::of(startup, agent, &permit)?;
    let login = Login::new(permit, &credential, parameters)?.with_negotiation(negotiation);
    exchange.set_role(login.role());
    let upstream = Upstream::reach(exchange, login.permit()).await?;
    let logged_in = login.run(exchange, upstream).await;
    // A revocation during the login ends it here: from now on the stream itself is watched.
    match exchange.still_permitted() {
        true => logged_in,
        false => Err(Refused::revoked()),
    }
}

impl OpenSession {
    /// Tells the agent that the session is open, and copies bytes until it ends.
    async fn run(self, mut stream: ServiceStream) {
        let Self { mut exchange, upstream, start, cancel, kept } = self;
        let within = stream.gateway.limits.handshake_timeout;
        let bytes = start.bytes(cancel.shown());
        // Copying has not begun, so a revocation does not end this: the limit does.
        let sent = tokio::time::timeout(within, send(&mut stream, &bytes)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
        upstream::copy(&mut exchange, stream, upstream, kept).await;
        drop(cancel);
    }
}

async fn send(stream: &mut ServiceStream, bytes: &[u8]) -> io::Result<()> {
    stream.socket().write_all(bytes).await?;
    stream.socket().flush().await
}

/// Sends a refusal and closes the stream. A client that has left already is no failure.
async fn send_last(stream: &mut ServiceStream, bytes: &[u8]) {
    let within = stream.gateway.limits.handshake_timeout;
    let sent = async {
        send(stream, bytes).await?;
        stream.socket().shutdown().await
    };
    if !matches!(tokio::time::timeout(within, sent).await, Ok(Ok(()))) {
        tracing::trace!("a client of a database listener left before its refusal");
    }
}

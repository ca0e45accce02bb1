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

use std::sync::Arc;

use tokio::io::AsyncWriteExt;

use self::cancel::CancelKey;
use self::login::{LoggedIn, Login};
use self::messages::SessionStart;
use self::parameters::StartupParameters;
use self::read_only::filter::Kept;
use self::refused::{Refused, fatal};
use self::startup::{FirstMessage, Startup};
use self::upstream::Upstream;
use crate::choice::{Named, choose};
use crate::listener::DatabaseListener;
use keyward_base::agent::Agent;
use keyward_base::codes::Code;
use keyward_proxy::{ServiceExchange, ServiceStream};

/// The answer to a stream above the limit: `FATAL`, SQLSTATE 53300, "too many open streams".
pub const OVERLOADED: &[u8] =
    b"E\0\0\0\x42SFATAL\0VFATAL\0C53300\0Mkeyward: too many open streams, retry later\0\0";

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
pub async fn serve(listener: Arc<DatabaseListener>, mut stream: ServiceStream) {
    let (gateway, place) = (stream.gateway.clone(), stream.place());
    let first = startup::read(stream.socket());
    let first = ServiceStream::while_unauthenticated(&gateway, &place, first).await;
    match first {
        Some(Ok(FirstMessage::Startup(startup))) => session(&listener, stream, startup).await,
        Some(Ok(FirstMessage::Cancel(key))) => listener.cancels().cancel(&gateway, key).await,
        Some(Err(malformed)) => {
            tracing::debug!(%malformed, "a client of a database listener sent no start-up message");
            let told = fatal("08P01", &malformed.to_string(), None, None);
            tell(&mut stream, &told).await;
        }
        // It said nothing in time, or had to make room.
        None => {}
    }
}

async fn session(listener: &DatabaseListener, mut stream: ServiceStream, startup: Startup) {
    let mut exchange = match stream.begin().await {
        Ok(exchange) => exchange,
        Err(refusal) => return tell(&mut stream, &Refused::from(refusal).bytes(None)).await,
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
            return tell(&mut stream, &bytes).await;
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
            Some(given.unwrap_or(Err(startup::Malformed::Silent))?)
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
    let connection = match listener.connection() {
        Some(connection) => connection.to_owned(),
        None => {
            let named = Named { database: startup.database(), user: startup.user() };
            let chosen = choose(&exchange.databases(agent), named);
            chosen.inspect_err(|refusal| exchange.refused_by_protocol(refusal.code))?
        }
    };
    let (permit, credential) = exchange.permit(agent, &connection).await?;
    let negotiation = startup.negotiation().filter(|_| exchange.is_owned());
    let parameters = StartupParameters::of(startup, agent, &permit);
    let parameters = parameters.inspect_err(|_| exchange.refused_by_protocol(Code::Denied))?;
    let login = Login::new(permit, &credential, parameters)?.with_negotiation(negotiation);
    exchange.set_role(login.role());
    let upstream = Upstream::reach(exchange, login.permit()).await?;
    let logged_in = login.run(exchange, upstream).await;
    // A revocation during the login ends it here: from now on the stream itself is watched.
    if !exchange.still_permitted() {
        exchange.refused_by_protocol(Code::Denied);
        return Err(Refused::revoked());
    }
    logged_in
}

impl OpenSession {
    /// Tells the agent that the session is open, and copies bytes until it ends.
    async fn run(self, mut stream: ServiceStream) {
        let Self { mut exchange, upstream, start, cancel, kept } = self;
        if stream.socket().write_all(&start.bytes(cancel.shown())).await.is_err() {
            return;
        }
        upstream::copy(&mut exchange, stream, upstream, kept).await;
        drop(cancel);
    }
}

/// The agent may have gone: there is nobody else to tell.
async fn tell(stream: &mut ServiceStream, bytes: &[u8]) {
    let within = stream.gateway.limits.handshake_timeout;
    let told = async {
        stream.socket().write_all(bytes).await?;
        stream.socket().shutdown().await
    };
    if !matches!(tokio::time::timeout(within, told).await, Ok(Ok(()))) {
        tracing::trace!("a client of a database listener left before its refusal");
    }
}

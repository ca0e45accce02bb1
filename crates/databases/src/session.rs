//! [`run`]: the stages of a session in every protocol: authentication of the agent, choice of the connection, permit,
//! login at the server, copying of bytes. [`Greeting`] is the part of one protocol.

use std::io;

use tokio::io::AsyncWriteExt;
use zeroize::Zeroizing;

use crate::listener::{ClientChoice, DatabaseListener, choose};
use crate::refused::Refused;
use keyward_base::agent::Agent;
use keyward_base::codes::Code;
use keyward_base::database::DatabaseProtocol;
use keyward_proxy::{AttachedAgent, ServiceExchange, ServiceStream};
use keyward_rules::policy::PermittedLogin;

/// The first messages of a client, in its protocol.
pub trait Greeting: Send + Sized {
    /// A session that is logged in at the server.
    type Open: Send;

    /// The protocol. A session is only for a connection to a database of this one.
    const PROTOCOL: DatabaseProtocol;

    /// The agent's token. Requests it from the client, unless the client has sent it already.
    fn token(
        &mut self,
        stream: &mut ServiceStream,
    ) -> impl Future<Output = Result<Zeroizing<String>, Refused>> + Send;

    fn named(&self) -> ClientChoice<'_>;

    /// Logs in at the server.
    fn open(
        &mut self,
        listener: &DatabaseListener,
        exchange: &mut ServiceExchange,
        agent: &Agent,
        permitted: PermittedLogin,
    ) -> impl Future<Output = Result<Self::Open, Refused>> + Send;

    /// Tells the agent that the session is open, and copies bytes until it ends.
    fn run(
        self,
        open: Self::Open,
        exchange: ServiceExchange,
        stream: ServiceStream,
    ) -> impl Future<Output = ()> + Send;

    /// A refusal as clients of the protocol show it.
    fn refusal(&self, refused: &Refused, exchange: Option<&str>) -> Vec<u8>;

    /// After a refusal, answers further messages until the client closes the stream, in protocols whose clients expect
    /// that.
    fn refuse_all(
        &mut self,
        _stream: &mut ServiceStream,
        _refusal: &[u8],
    ) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// Serves one stream until it ends. `greeted`: the client's login, or `None` if it sent nothing that is understood.
pub async fn serve<G: Greeting>(
    listener: &DatabaseListener,
    stream: ServiceStream,
    greeted: impl AsyncFnOnce(ServiceStream) -> Option<(ServiceStream, G)>,
) {
    let (gateway, place) = (stream.gateway.clone(), stream.place());
    let greeted = ServiceStream::while_unauthenticated(&gateway, &place, greeted(stream)).await;
    // Otherwise the client sent nothing in time, only monitored the server, or was evicted.
    if let Some((stream, client)) = greeted.flatten() {
        run(listener, stream, client).await;
    }
}

/// Runs the session of a client until it ends. Its audit record is written then.
pub async fn run<G: Greeting>(
    listener: &DatabaseListener,
    mut stream: ServiceStream,
    mut greeting: G,
) {
    let mut exchange = match stream.begin(G::PROTOCOL).await {
        Ok(exchange) => exchange,
        Err(refusal) => {
            let bytes = greeting.refusal(&Refused::from(refusal), None);
            return send_last(&mut stream, &bytes).await;
        }
    };
    let opened = match authenticated(&mut stream, &mut exchange, &mut greeting).await {
        Ok(attached) => opened(listener, &mut exchange, &attached, &mut greeting).await,
        Err(refused) => Err(refused),
    };
    match opened {
        Ok(open) => greeting.run(open, exchange, stream).await,
        Err(refused) => {
            if let Some(code) = refused.code() {
                exchange.refused_by_protocol(code);
            }
            let bytes = greeting.refusal(&refused, Some(exchange.id()));
            // The record is written now.
            drop(exchange);
            if send_first(&mut stream, &bytes).await {
                let (gateway, place) = (stream.gateway.clone(), stream.place());
                let rest = greeting.refuse_all(&mut stream, &bytes);
                ServiceStream::while_unauthenticated(&gateway, &place, rest).await;
            }
            send_last(&mut stream, b"").await;
        }
    }
}

/// The agent of the stream: that of the listener, or that of the client's token.
async fn authenticated<G: Greeting>(
    stream: &mut ServiceStream,
    exchange: &mut ServiceExchange,
    greeting: &mut G,
) -> Result<AttachedAgent, Refused> {
    let token = match stream.is_owned() {
        true => None,
        false => {
            let (gateway, place) = (stream.gateway.clone(), stream.place());
            let asked = greeting.token(stream);
            let given = ServiceStream::while_unauthenticated(&gateway, &place, asked).await;
            Some(given.unwrap_or(Err(Refused::Client("no password was sent in time")))?)
        }
    };
    let token = token.as_ref().map(|token| token.as_str());
    Ok(exchange.authenticate(token)?)
}

/// Logs in at the server of the connection that the agent means.
async fn opened<G: Greeting>(
    listener: &DatabaseListener,
    exchange: &mut ServiceExchange,
    attached: &AttachedAgent,
    greeting: &mut G,
) -> Result<G::Open, Refused> {
    let mut choices = exchange.databases(attached.agent());
    choices.retain(|choice| choice.protocol == G::PROTOCOL);
    if let Some(only) = listener.connection() {
        choices.retain(|choice| *choice.name == *only);
    }
    let connection = choose(&choices, greeting.named()).map_err(Refused::Keyward)?;
    let permitted = exchange.permit(attached, &connection).await?;
    // The name may have become another connection's since the choice.
    if permitted.permit().endpoint().protocol != G::PROTOCOL {
        return Err(Refused::revoked());
    }
    let opened = greeting.open(listener, exchange, attached.agent(), permitted).await;
    let opened = opened.map_err(|refused| refused.by_server_of(&connection));
    // A revocation during the login ends it here: from now on the stream itself is watched.
    match exchange.still_permitted() {
        true => opened,
        false => Err(Refused::revoked()),
    }
}

/// Sends what begins the session. Copying has not begun, so a revocation does not end this: the limit does.
pub async fn send_first(stream: &mut ServiceStream, bytes: &[u8]) -> bool {
    let within = stream.gateway.limits.handshake_timeout;
    matches!(tokio::time::timeout(within, send(stream, bytes)).await, Ok(Ok(())))
}

/// Sends a refusal and closes the stream. A client that has left already is no failure.
pub async fn send_last(stream: &mut ServiceStream, bytes: &[u8]) {
    let within = stream.gateway.limits.handshake_timeout;
    let sent = async {
        send(stream, bytes).await?;
        stream.socket().shutdown().await
    };
    if !matches!(tokio::time::timeout(within, sent).await, Ok(Ok(()))) {
        tracing::trace!("a client of a database listener left before its refusal");
    }
}

async fn send(stream: &mut ServiceStream, bytes: &[u8]) -> io::Result<()> {
    stream.socket().write_all(bytes).await?;
    stream.socket().flush().await
}

impl Refused {
    /// Something that the session depends on was revoked while it was opened.
    fn revoked() -> Self {
        Self::Keyward(Code::Denied.because("the agent's access was revoked during the login"))
    }
}

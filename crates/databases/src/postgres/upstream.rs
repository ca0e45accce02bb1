//! The stream to the server. TLS is negotiated before anything else is sent: no other
//! byte is read before it (CVE-2021-23222).

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::channel_binding::server_end_point;
use crate::refused::Refused;
use crate::upstream::Upstream;
use keyward_base::codes::Code;
use keyward_base::database::StreamSecurity;
use keyward_proxy::{CheckedUpstream, Gateway, ServiceExchange};
use keyward_rules::policy::DatabasePermit;

/// Dials the server, with TLS unless the permit says otherwise.
///
/// # Errors
/// When it cannot be reached, has no TLS, or does not prove to be the permit's host.
pub async fn reach(
    exchange: &mut ServiceExchange,
    permit: &DatabasePermit,
) -> Result<Upstream, Refused> {
    let mut stream = exchange.dial(permit).await?;
    if permit.endpoint().security == StreamSecurity::VerifiedTls {
        let within = exchange.connect_timeout();
        let takes_tls = tokio::time::timeout(within, ask_for_tls(&mut stream)).await;
        match takes_tls {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => {
                let text = Code::UpstreamTls.because("the database server offers no TLS");
                let hint = "switch TLS on at the server, or set `sslmode: disable`";
                return Err(Refused::Keyward(text.hint(hint)));
            }
            Ok(Err(_)) | Err(_) => {
                let text = "the server does not answer as PostgreSQL does";
                return Err(Refused::Keyward(Code::UpstreamProtocol.because(text)));
            }
        }
    }
    Upstream::secured(exchange, stream, permit).await
}

/// Another stream to the server of an open session.
pub async fn reach_again(gateway: &Arc<Gateway>, permit: &DatabasePermit) -> Option<Upstream> {
    let mut stream = ServiceExchange::attempt(gateway, permit).await.ok()?;
    if permit.endpoint().security == StreamSecurity::Cleartext {
        return Some(Upstream::Cleartext(stream));
    }
    if !ask_for_tls(&mut stream).await.ok()? {
        return None;
    }
    let stream = ServiceExchange::secure_attempt(gateway, stream, permit).await.ok()?;
    Some(Upstream::Tls(Box::new(stream)))
}

/// What ties SCRAM to the stream, over TLS.
pub fn channel_binding(upstream: &Upstream) -> Option<Vec<u8>> {
    let Upstream::Tls(stream) = upstream else { return None };
    let (_, session) = stream.get_ref();
    server_end_point(session.peer_certificates()?.first()?)
}

/// Whether the server takes TLS. Reads its one byte alone.
async fn ask_for_tls(stream: &mut CheckedUpstream) -> io::Result<bool> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await?;
    match stream.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

//! A PostgreSQL server in process, honest or not, and what it received.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use test_support::pki::pki;
use test_support::wire::{Seen, find};

/// The name that its certificate is for.
pub(super) const NAME: &str = "db.acme.test";

/// The length of a request for TLS, in bytes.
pub(super) const TLS_REQUEST_BYTES: usize = 8;

/// A statement that runs without end.
pub(super) const UNANSWERED: &[u8] = b"SELECT 'unanswered'";

/// What it receives to cancel the statement of a session, with the key that it gave.
pub(super) const CANCEL: &[u8] = &[4, 210, 22, 46, 0, 0, 0, 7, 1, 2, 3, 4];

const READ_ONLY: &[u8] = b"default_transaction_read_only";

/// What it does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Behaviour {
    /// Has no TLS.
    Declines,
    /// Has a certificate for another name.
    IsAnother,
    /// Puts cleartext before its side of the TLS handshake (CVE-2021-23222).
    Injects,
    /// Speaks another protocol.
    IsHttp,
    /// Never answers.
    IsSilent,
    /// Asks for the password and opens a session, in which every query has one row: its text. [`UNANSWERED`] has no answer.
    Serves,
    /// The same, and drops the parameters that make a session read-only.
    DropsParameters,
    /// Opens no session that begins with such a parameter.
    RefusesParameters,
    /// Opens a session without asking for the password.
    AsksNothing,
}

/// A listening server. Stopped when dropped.
pub(super) struct Server {
    pub(super) at: SocketAddr,
    received: Seen,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let at = listener.local_addr().expect("it is bound");
        let (received, accepted) = (Seen::default(), Arc::new(AtomicUsize::new(0)));
        let (seen, count) = (received.clone(), accepted.clone());
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                let seen = seen.clone();
                tokio::spawn(async move {
                    // A stream that the gateway breaks off is expected.
                    drop(served(socket, behaviour, &seen).await);
                });
            }
        });
        Self { at, received, accepted, task }
    }

    /// All bytes that it received, decrypted.
    pub(super) fn received(&self) -> Vec<u8> {
        self.received.lock().expect("not poisoned").clone()
    }

    /// How many streams it accepted.
    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn served(mut socket: TcpStream, behaviour: Behaviour, seen: &Seen) -> std::io::Result<()> {
    let mut request = [0; TLS_REQUEST_BYTES];
    socket.read_exact(&mut request).await?;
    note(seen, &request);
    let name = if behaviour == Behaviour::IsAnother { "other.acme.test" } else { NAME };
    match behaviour {
        Behaviour::Declines => socket.write_all(b"N").await?,
        Behaviour::IsHttp => socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await?,
        Behaviour::IsSilent => {}
        Behaviour::Injects => socket.write_all(b"SR\0\0\0\x08\0\0\0\x03").await?,
        Behaviour::IsAnother
        | Behaviour::Serves
        | Behaviour::DropsParameters
        | Behaviour::RefusesParameters
        | Behaviour::AsksNothing => {
            socket.write_all(b"S").await?;
            let tls = TlsAcceptor::from(pki().server(&[name])).accept(socket).await?;
            return session(tls, behaviour, seen).await;
        }
    }
    rest(&mut socket, seen).await
}

/// Reads on until the end.
async fn rest(stream: &mut (impl AsyncRead + Unpin), seen: &Seen) -> std::io::Result<()> {
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece).await? {
            0 => return Ok(()),
            count => note(seen, &piece[..count]),
        }
    }
}

async fn session<S>(mut stream: S, behaviour: Behaviour, seen: &Seen) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let length = stream.read_u32().await? as usize;
    let mut startup = vec![0; length - 4];
    stream.read_exact(&mut startup).await?;
    note(seen, &startup);
    if startup[..4] == CANCEL[..4] {
        return Ok(());
    }
    if behaviour == Behaviour::RefusesParameters && find(&startup, READ_ONLY).is_some() {
        let words = "Munsupported startup parameter: default_transaction_read_only\0";
        let refusal = format!("SFATAL\0VFATAL\0C08P01\0{words}\0");
        stream.write_all(&message(b'E', refusal.as_bytes())).await?;
        return stream.shutdown().await;
    }
    if behaviour != Behaviour::AsksNothing {
        stream.write_all(&message(b'R', &3_u32.to_be_bytes())).await?;
        let password = read(&mut stream, seen).await?.1;
        assert!(password.ends_with(b"\0"));
    }
    let opened = [
        message(b'R', &0_u32.to_be_bytes()),
        message(b'S', b"server_version\x0099.1\0"),
        message(b'K', &[0, 0, 0, 7, 1, 2, 3, 4]),
        message(b'Z', b"I"),
    ];
    stream.write_all(&opened.concat()).await?;
    stream.flush().await?;
    loop {
        let (tag, body) = read(&mut stream, seen).await?;
        if tag == b'X' {
            return stream.shutdown().await;
        }
        let text = body.strip_suffix(b"\0").unwrap_or(&body).to_vec();
        let begins = |begin: &[u8]| text.starts_with(begin);
        if text == UNANSWERED {
            continue;
        }
        let is_on = if behaviour == Behaviour::DropsParameters { "off" } else { "on" };
        let columns = if begins(b"SELECT current_setting('transaction_read_only')") {
            vec![is_on.into(), b"on".to_vec(), b"UTF8".to_vec(), b"none".to_vec()]
        } else if begins(b"SELECT current_setting('server_version')") {
            vec![b"99.1".to_vec(), b"app".to_vec(), is_on.into(), b"false".to_vec()]
        } else if begins(b"SELECT concat_ws(") {
            vec![b"create roles".to_vec(), b"write to 3 tables".to_vec()]
        } else {
            vec![text.clone()]
        };
        // Behind `BEGIN`, until the end.
        let state = if begins(b"BEGIN") { b"T" } else { b"I" };
        let answer = [row(&columns), message(b'C', b"SELECT 1\0"), message(b'Z', state)];
        stream.write_all(&answer.concat()).await?;
        stream.flush().await?;
    }
}

async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    seen: &Seen,
) -> std::io::Result<(u8, Vec<u8>)> {
    let (tag, length) = (stream.read_u8().await?, stream.read_u32().await? as usize);
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body).await?;
    note(seen, &body);
    Ok((tag, body))
}

fn row(columns: &[Vec<u8>]) -> Vec<u8> {
    let mut body = u16::try_from(columns.len()).expect("few").to_be_bytes().to_vec();
    for column in columns {
        body.extend(u32::try_from(column.len()).expect("short").to_be_bytes());
        body.extend(column);
    }
    message(b'D', &body)
}

pub(super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn note(seen: &Seen, bytes: &[u8]) {
    seen.lock().expect("not poisoned").extend_from_slice(bytes);
}

//! The versions of Bolt: the choice of one with a client, and the same one with the server. What clients are offered is
//! not newer than what the servers of a listener speak. <https://neo4j.com/docs/bolt/current/bolt/handshake/>

use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::format::{BoltFormatError, BoltReadError, BoltVersion, NEWEST, OLDEST};
use crate::login::ServerError;

const MAGIC: [u8; 4] = [0x60, 0x60, 0xb0, 0x17];

/// In place of a version: the server lists its own.
const MANIFEST: [u8; 4] = [0, 0, 1, 0xff];

/// The newest version that clients of a listener are offered. A server that speaks only older ones lowers it, because a client
/// chooses its version before it names a connection.
#[derive(Debug)]
pub struct OfferedVersion(AtomicU16);

impl Default for OfferedVersion {
    fn default() -> Self {
        Self(AtomicU16::new(NEWEST.number()))
    }
}

impl OfferedVersion {
    pub fn newest(&self) -> BoltVersion {
        let [major, minor] = self.0.load(Relaxed).to_be_bytes();
        BoltVersion { major, minor }
    }

    /// Offers nothing newer from now on.
    pub fn lower(&self, to: BoltVersion) {
        self.0.fetch_min(to.number(), Relaxed);
    }
}

/// Reads a client's proposals and answers with a version up to `newest`.
///
/// # Errors
/// When it proposes none that is supported.
pub async fn answer<S>(stream: &mut S, newest: BoltVersion) -> Result<BoltVersion, BoltReadError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut magic = [0; 4];
    stream.read_exact(&mut magic).await?;
    if magic != MAGIC {
        return Err(BoltReadError::Malformed(BoltFormatError::Magic));
    }
    let mut proposals = [[0; 4]; 4];
    for proposal in &mut proposals {
        stream.read_exact(proposal).await?;
    }
    let found = match proposals.contains(&MANIFEST) {
        true => manifest(stream, newest).await?,
        false => {
            let mut all = proposals.into_iter();
            let found = all.find_map(|proposal| BoltVersion::of_proposal(proposal, newest));
            stream.write_all(&found.map_or([0; 4], |version| version.proposal(0))).await?;
            stream.flush().await?;
            found
        }
    };
    found.ok_or(BoltReadError::Malformed(BoltFormatError::Version))
}

/// Lists the versions, and reads the client's choice: a version, and its capabilities, of which there are none.
async fn manifest<S>(
    stream: &mut S,
    newest: BoltVersion,
) -> Result<Option<BoltVersion>, BoltReadError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let offers = match newest.major == NEWEST.major {
        true => vec![newest.proposal(newest.minor), OLDEST.proposal(0)],
        false => vec![OLDEST.proposal(0)],
    };
    let count = if offers.len() == 2 { 2 } else { 1 };
    let list = [&MANIFEST[..], &[count], &offers.concat(), &[0]].concat();
    stream.write_all(&list).await?;
    stream.flush().await?;
    let mut chosen = [0; 4];
    stream.read_exact(&mut chosen).await?;
    // A number whose last byte is below 128.
    let mut is_number = false;
    for _ in 0..10 {
        is_number = stream.read_u8().await? < 0x80;
        if is_number {
            break;
        }
    }
    let [_, _, minor, major] = chosen;
    Ok(BoltVersion::of_proposal([0, 0, minor, major], newest).filter(|_| is_number))
}

/// Agrees on a version with a server: on this one, or on the newest that both speak.
///
/// # Errors
/// When the server speaks none that is supported.
pub async fn propose<S>(
    stream: &mut S,
    wanted: Option<BoltVersion>,
) -> Result<BoltVersion, ServerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let newest = wanted.unwrap_or(NEWEST);
    // The wanted one goes first; what follows only tells an older server's version.
    let before = newest.minor.saturating_sub(1);
    let older = BoltVersion { major: newest.major, minor: before };
    let proposals = match newest == OLDEST {
        true => [OLDEST.proposal(0), [0; 4], [0; 4], [0; 4]],
        false => [newest.proposal(0), older.proposal(before), OLDEST.proposal(0), [0; 4]],
    };
    stream.write_all(&[&MAGIC[..], &proposals.concat()].concat()).await?;
    stream.flush().await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    let [_, _, minor, major] = answer;
    BoltVersion::of_proposal([0, 0, minor, major], newest).ok_or(ServerError::Unsupported {
        method: "a version of Bolt other than 4.4 and 5.0 to 5.8",
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn a_server_with_another_version_tells_which_one_clients_are_offered_next() {
        let version = |major, minor| BoltVersion { major, minor };
        for (wanted, answer, expected, proposes) in [
            (Some(NEWEST), [0, 0, 8, 5], NEWEST, [[0, 0, 8, 5], [0, 7, 7, 5], [0, 0, 4, 4]]),
            (Some(NEWEST), [0, 0, 3, 5], version(5, 3), [[0, 0, 8, 5], [0, 7, 7, 5], [0, 0, 4, 4]]),
            (Some(NEWEST), [0, 0, 4, 4], OLDEST, [[0, 0, 8, 5], [0, 7, 7, 5], [0, 0, 4, 4]]),
            (Some(OLDEST), [0, 0, 4, 4], OLDEST, [[0, 0, 4, 4], [0; 4], [0; 4]]),
            (None, [0, 0, 0, 5], version(5, 0), [[0, 0, 8, 5], [0, 7, 7, 5], [0, 0, 4, 4]]),
        ] {
            let (mut stream, mut server) = duplex(100);
            server.write_all(&answer).await.expect("it has room");
            let found = propose(&mut stream, wanted).await.expect("a version");
            assert_eq!(found, expected);
            let mut got = [0; 20];
            server.read_exact(&mut got).await.expect("it is there");
            assert_eq!((&got[..4], &got[4..16]), (&MAGIC[..], &proposes.concat()[..]));
            let offered = OfferedVersion::default();
            offered.lower(found);
            offered.lower(NEWEST);
            assert_eq!(offered.newest(), expected);
        }
        // Not a newer one than was proposed.
        let (mut stream, mut server) = duplex(100);
        server.write_all(&[0, 0, 8, 5]).await.expect("it has room");
        assert!(propose(&mut stream, Some(version(5, 3))).await.is_err());
    }
}

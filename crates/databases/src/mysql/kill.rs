//! [`SessionAtServer`]: ends at the server what a session runs there. A server notices the end of a stream only when it has an
//! answer to send.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use super::login::{LoggedIn, MysqlLogin};
use super::packet::{PROTOCOL, Parts, QUERY, Sequence, ask};
use crate::login::ServerError;
use keyward_proxy::Gateway;

/// A session, as its server knows it.
pub struct SessionAtServer {
    login: MysqlLogin,
    thread: u32,
    /// The port from which the server sees it.
    port: Option<u16>,
}

impl SessionAtServer {
    pub fn new(login: MysqlLogin, opened: &LoggedIn) -> Self {
        Self { login, thread: opened.thread, port: opened.upstream.local_port() }
    }

    /// Ends the session by a second login, as clients do for `Ctrl-C`.
    pub async fn kill(mut self, gateway: &Gateway) {
        let within = gateway.limits.connect_timeout;
        let killed = async {
            let mut upstream = self.login.again(gateway).await?;
            kill(&mut upstream, self.thread, self.port?).await.ok()
        };
        if tokio::time::timeout(within, killed).await.ok().flatten().is_none() {
            tracing::info!("what an ended session runs may go on at its server");
        }
    }
}

/// Ends a session, unless it has ended. The second login may be at another server of the same name, where the number is
/// another session's: the server must see the session at the port.
async fn kill<S>(stream: &mut S, thread: u32, port: u16) -> Result<(), ServerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let question = format!("SELECT HOST FROM information_schema.PROCESSLIST WHERE ID = {thread}");
    let Some(row) = ask(stream, &question).await? else { return Ok(()) };
    let host = Parts(&row).length_encoded().ok_or(PROTOCOL)?;
    if !host.ends_with(format!(":{port}").as_bytes()) {
        return Err(io::Error::from(io::ErrorKind::AddrNotAvailable).into());
    }
    let mut sequence = Sequence::default();
    let order = format!("KILL {thread}");
    sequence.write(stream, &[&[QUERY], order.as_bytes()].concat()).await?;
    // Whatever it answers: the session may have ended meanwhile.
    sequence.read(stream).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;
    use crate::mysql::packet::{OK, put_length_encoded};

    /// A server that shows the session at this host, and the commands that it gets.
    async fn commands(host: Option<&str>) -> (Result<(), ServerError>, Vec<String>) {
        let (mut client, mut server) = duplex(1 << 12);
        let served = async {
            let mut commands = Vec::new();
            loop {
                let mut sequence = Sequence::default();
                let Ok(command) = sequence.read(&mut server).await else { return commands };
                commands.push(String::from_utf8_lossy(&command[1..]).into_owned());
                if command[1..].starts_with(b"KILL") {
                    sequence.write(&mut server, &[OK, 0, 0, 2, 0, 0, 0]).await.unwrap();
                    continue;
                }
                let mut row = Vec::new();
                host.inspect(|host| put_length_encoded(host.as_bytes(), &mut row));
                let end = vec![0xfe, 0, 0, 2, 0];
                for packet in [vec![1], b"\x03def".to_vec(), end.clone(), row, end] {
                    if !packet.is_empty() {
                        sequence.write(&mut server, &packet).await.unwrap();
                    }
                }
            }
        };
        let killed = async {
            let killed = kill(&mut client, 7, 4242).await;
            drop(client);
            killed
        };
        tokio::join!(killed, served)
    }

    #[tokio::test]
    async fn a_session_is_ended_only_where_the_server_sees_its_port() {
        for host in ["10.0.0.1:4243", "10.0.0.1:14242", "4242", "", "10.0.0.1"] {
            let (killed, commands) = commands(Some(host)).await;
            assert!(killed.is_err(), "{host}");
            assert_eq!(commands.len(), 1, "{host}: {commands:?}");
        }
        let (killed, asked) = commands(None).await;
        assert!(killed.is_ok(), "it has ended");
        assert_eq!(asked.len(), 1, "{asked:?}");

        let (killed, commands) = commands(Some("gateway.acme.test:4242")).await;
        killed.unwrap();
        assert_eq!(commands[1..], ["KILL 7"]);
    }
}

//! The socket of Keyward's SSH agent for the program of a run. Each stream of it goes to the gateway by the proxy, which
//! signs; no key is in this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use keyward_base::host::{Scheme, Target};
use keyward_base::secret::Secret;
use keyward_net::corporate::CorporateProxy;
use keyward_net::dial::Dialler;
use keyward_net::guard::Guard;
use keyward_proxy::SSH_AGENT_HOST as HOST;

/// The socket's name in the folder of the run.
const NAME: &str = "ssh-agent.sock";

/// The time for reaching the gateway.
const WITHIN: Duration = Duration::from_secs(10);

/// The listener. It ends with the run, and its socket with the folder.
pub(super) struct SshAgent {
    socket: PathBuf,
    listening: JoinHandle<()>,
}

impl SshAgent {
    /// Listens in the folder of the run. `agent` and `token` authenticate at the proxy.
    ///
    /// # Errors
    /// When the socket cannot be made: the path of the data directory may be too long for one.
    pub(super) fn start(
        folder: &Path,
        proxy: &str,
        agent: &str,
        token: &str,
    ) -> Result<Self, Failure> {
        let socket = folder.join(NAME);
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Failure::failed(
                &format!("cannot make the SSH agent's socket {}", socket.display()),
                error,
            )
            .hint("a shorter path for --data or KEYWARD_DATA may help")
        };
        let listener = UnixListener::bind(&socket).map_err(|error| failed(&error))?;
        if proxy.starts_with("https://") {
            let hint = "the gateway's listeners all require TLS: add one to `listen.proxy` without it, on loopback";
            let no = "the SSH agent reaches the gateway without TLS only";
            return Err(Failure::new(Exit::Failed, no).hint(hint));
        }
        let at = Target::parse(Scheme::Http, proxy).map_err(|error| failed(&error))?;
        let proxy = CorporateProxy::new(at, Vec::new());
        let proxy = proxy.with_login(agent, &Secret::from(token.to_owned()));
        let proxy = proxy.map_err(|error| failed(&error))?;
        let to = Target::parse(Scheme::Https, &format!("{HOST}:22"));
        let to = Arc::new(to.map_err(|error| failed(&error))?);
        let guard = Guard::new(Vec::new(), Vec::new());
        let dialler = Arc::new(Dialler::new(guard, Vec::new(), 1).with_proxy(Some(proxy)));
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, dialler.clone(), to.clone()));
            }
        });
        Ok(Self { socket, listening })
    }

    /// The path of the socket.
    pub(super) fn socket(&self) -> String {
        self.socket.display().to_string()
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn relay(mut client: UnixStream, dialler: Arc<Dialler>, to: Arc<Target>) {
    match dialler.dial(&to, WITHIN).await {
        // Either side may end it; the client sees that its agent is gone.
        Ok(mut dialled) => {
            drop(tokio::io::copy_bidirectional(&mut client, &mut dialled.stream).await);
        }
        Err(error) => {
            output::note(&format!("keyward: the SSH agent does not reach the gateway: {error}"))
        }
    }
}

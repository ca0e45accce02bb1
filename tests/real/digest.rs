//! Digest authentication at Apache (mod_auth_digest): curl without `--digest` reads a page in `keyward run`.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::stage::{run, said, service};
use test_support::install::Install;
use test_support::pki::pki;
use test_support::*;

const NAME: &str = "pages.acme.test";

/// Apache with one page, for user `ann` alone.
struct Apache {
    server: Child,
    folder: TempDir,
    port: u16,
}

impl Apache {
    async fn start(password: &str) -> Self {
        let folder = TempDir::new().expect("a directory");
        let at = |name: &str| folder.path().join(name);
        // Its workers have a user of their own when it runs as root.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))
            .expect("a mode");
        std::fs::create_dir(at("pages")).expect("a folder");
        std::fs::write(at("pages/a.txt"), "fine").expect("a file");
        let (certificate, key) = pki().pem(&[NAME]);
        std::fs::write(at("certificate.pem"), certificate).expect("a file");
        std::fs::write(at("key.pem"), key).expect("a file");
        let hash = "import hashlib, sys; print(hashlib.md5(sys.stdin.read().encode()).hexdigest())";
        let mut md5 = Command::new("python3");
        md5.args(["-c", hash]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut md5 = md5.spawn().expect("Python");
        let text = format!("ann:acme:{password}");
        std::io::Write::write_all(md5.stdin.as_mut().expect("piped"), text.as_bytes())
            .expect("it reads");
        let hash = md5.wait_with_output().expect("it ends").stdout;
        let hash = String::from_utf8(hash).expect("text");
        std::fs::write(at("users"), format!("ann:acme:{hash}")).expect("a file");
        // It takes no port of the system's choice; another program rarely takes this one meanwhile.
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();
        std::fs::write(at("apache.conf"), Self::configuration(folder.path(), port))
            .expect("a file");
        let mut server = Command::new(service("apache2"));
        server.arg("-f").arg(at("apache.conf")).arg("-DFOREGROUND").stderr(Stdio::null());
        let server = server.spawn().expect("`tests/run` installs Apache");
        let apache = Self { server, folder, port };
        until("Apache listens", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        apache
    }

    fn configuration(folder: &std::path::Path, port: u16) -> String {
        let modules = [
            "mpm_event",
            "authn_core",
            "authn_file",
            "authz_core",
            "authz_user",
            "auth_digest",
            "socache_shmcb",
            "ssl",
        ];
        let at = Self::modules();
        let modules = modules.map(|name| format!("LoadModule {name}_module {at}/mod_{name}.so\n"));
        let folder = folder.display();
        format!(
            "{}ServerName {NAME}\nListen 127.0.0.1:{port}\nPidFile {folder}/pid\nDefaultRuntimeDir {folder}\nErrorLog {folder}/errors\n\
             LogLevel warn\nLogFormat \"%s %m %U %{{Authorization}}i\" all\nCustomLog {folder}/log all\nUser www-data\nGroup www-data\n\
             Mutex file:{folder}\nAuthDigestShmemSize 91800\nSSLEngine on\nSSLCertificateFile {folder}/certificate.pem\n\
             SSLCertificateKeyFile {folder}/key.pem\nDocumentRoot {folder}/pages\n<Location />\nAuthType Digest\nAuthName acme\n\
             AuthUserFile {folder}/users\nRequire user ann\n</Location>\n",
            modules.concat()
        )
    }

    /// The folder that the package has its modules in.
    fn modules() -> String {
        let files = Command::new("dpkg").args(["-L", "apache2-bin"]).output().expect("dpkg");
        let files = String::from_utf8(files.stdout).expect("text");
        let mut folders = files.lines().filter_map(|line| line.strip_suffix("/mod_ssl.so"));
        folders.next().expect("a module").to_owned()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        // Killed, it would leave its workers.
        let id = Pid::from_child(&self.server);
        let _ = kill_process(id, Signal::TERM);
        let _ = self.server.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_a_page_that_apache_protects_by_digest_authentication() {
    let plan = Plan::api_key().no_agents();
    let canary = plan.canary().clone();
    let apache = Apache::start(&canary.text).await;
    let plan = plan
        .provider(&format!("{{ id: pages, name: Pages, hosts: [{NAME}], auth: [{{ id: login, kind: digest }}] }}"))
        .connection(
            "{ name: pages, provider: pages, fields: { username: { command: [echo, ann] }, password: { env: CANARY } } }",
        )
        .agent("ci", "pages")
        .resolve(&format!("{NAME}: \"127.0.0.1:{}\"", apache.port))
        .allow(&format!("127.0.0.1/32:{}", apache.port));
    let origin = Origin::answering(|_: &Message| ok("nothing"));
    let install = Install::new(&plan, &origin);
    let url = format!("https://{NAME}/a.txt?x=%20y");
    let mut command = install.keyward(&["run", "--agent", "ci", "--", "curl", "-sS", "--fail"]);
    command.args([&*url, &*url, &*url]);
    let output = run(command).await;
    let said = said(&output);
    assert!(output.status.success() && said.contains("finefinefine"), "{said} {}", apache.log());
    canary.assert_absent("what curl said", said.as_bytes());
    canary.assert_absent_below(install.folder());
    let log = apache.log();
    let statuses: Vec<&str> = log.lines().map(|line| &line[..3]).collect();
    assert_eq!(statuses, ["401", "200", "200", "200"], "the challenge is fetched once: {log}");
    assert!(log.contains("nc=00000003") && !log.contains(&canary.text), "{log}");
}

//! Remedies of `keyward doctor`, applied literally: the printed code is added to the failing program, which then uses
//! the proxy, examined by doctor and with the gateway.

use serde_json::Value;

use crate::stage::{assert_injected, installed, run, said};
use test_support::install::Install;
use test_support::*;

/// The code between backticks that begins like this.
pub(crate) fn code_in(hint: &str, begin: &str) -> String {
    let code = hint.split('`').skip(1).step_by(2).find(|code| code.starts_with(begin));
    code.unwrap_or_else(|| panic!("no `{begin}…` in: {hint}")).to_owned()
}

/// A program with a hole, `HOLE`.
struct Case {
    interpreter: Interpreter,
    script: &'static str,
    /// What stands there at first.
    wrong: &'static str,
    /// The beginning of the code that doctor tells.
    remedy: &'static str,
    /// What the hint says besides.
    says: &'static str,
}

#[derive(Clone, Copy)]
enum Interpreter {
    Python,
    Bun,
}

impl Interpreter {
    /// Its command, the last word of which is the file of the script. Python is started without its variables, and so without
    /// the script of Keyward that makes these cases work.
    fn command(self) -> Vec<String> {
        let (path, arguments): (_, &[&str]) = match self {
            Self::Python => ("real-venv/bin/python", &["-E", "app.py"]),
            Self::Bun => ("real-node/node_modules/.bin/bun", &["app.mjs"]),
        };
        let arguments = arguments.iter().map(|word| (*word).to_owned());
        [installed(path).display().to_string()].into_iter().chain(arguments).collect()
    }
}

/// An install whose origin answers `fine`, as JSON, to the live credential.
struct Stage {
    install: Install,
    origin: Origin,
    canary: canary::Canary,
}

impl Stage {
    async fn new() -> Self {
        let plan = Plan::api_key();
        let canary = plan.canary().clone();
        let live = canary.text.clone();
        let origin = Origin::answering(move |request: &Message| {
            match request.head.all("x-api-key")[..] == [&*live] {
                true => ok("{\"object\":\"fine\"}"),
                false => "HTTP/1.1 401 No\r\nContent-Length: 4\r\n\r\nno! ".to_owned(),
            }
        });
        let install = Install::new(&plan, &origin);
        // It makes what the file declares.
        drop(install.serve());
        let modules = install.folder().join("node_modules");
        std::os::unix::fs::symlink(installed("real-node/node_modules"), modules).expect("a link");
        Self { install, origin, canary }
    }

    async fn doctor(&self, program: &[String]) -> (Value, String) {
        let mut command = self.install.keyward(&["doctor", "--json", "--agent", "ci", "--"]);
        command.args(program);
        let output = run(command).await;
        let said = said(&output);
        (serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}")), said)
    }
}

impl Case {
    async fn is_mended(&self) {
        let stage = Stage::new().await;
        let program = self.interpreter.command();
        let file = program.last().expect("the file");
        let write = |hole: &str| {
            let script = self.script.replace("HOLE", hole).replace("HOST", HOST);
            std::fs::write(stage.install.folder().join(file), script).expect("a file");
        };
        write(self.wrong);
        let (report, printed) = stage.doctor(&program).await;
        let checks = report["checks"].as_array().expect("a list");
        let failed = checks.iter().find(|check| check["status"] == "fail");
        let failed = failed.unwrap_or_else(|| panic!("{report:#}\n{printed}"));
        let hint = failed["hint"].as_str().expect("a hint");
        assert!(hint.contains(self.says), "{hint}");
        write(&code_in(hint, self.remedy));
        let (report, printed) = stage.doctor(&program).await;
        let message = report["checks"][0]["message"].as_str().unwrap_or_default();
        let mended = message.starts_with("api.acme.test: it uses the proxy");
        assert!(mended, "{hint}\n{report:#}\n{printed}");
        assert_eq!(stage.origin.streams(), 0, "nothing goes out of doctor");
        let mut command = stage.install.keyward(&["run", "--agent", "ci", "--"]);
        command.args(&program);
        let output = run(command).await;
        let printed = said(&output);
        assert!(printed.contains("fine"), "{hint}\n{printed}");
        assert_injected(&stage.origin.only(), &stage.canary.text);
        stage.canary.assert_absent("what the program said", printed.as_bytes());
    }
}

macro_rules! mended {
    ($($name:ident: $case:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            $case.is_mended().await;
        }
    )*};
}

mended! {
    the_remedy_for_urllib3_works: Case {
        interpreter: Interpreter::Python,
        script: "
import os, urllib3
http = HOLE
print(http.request('GET', 'https://HOST/a', timeout=20, retries=0).data.decode())
",
        wrong: "urllib3.PoolManager()",
        remedy: "urllib3.ProxyManager",
        says: "no credentials of a URL",
    };
    the_remedy_for_urllib3_with_the_url_alone_works: Case {
        interpreter: Interpreter::Python,
        script: "
import os, urllib3
http = HOLE
print(http.request('GET', 'https://HOST/a', timeout=20, retries=0).data.decode())
",
        wrong: "urllib3.ProxyManager(os.environ['HTTPS_PROXY'])",
        remedy: "urllib3.ProxyManager",
        says: "no credentials of a URL",
    };
    the_remedy_for_aiohttp_works: Case {
        interpreter: Interpreter::Python,
        script: "
import aiohttp, asyncio
async def main():
    async with HOLE as session:
        async with session.get('https://HOST/a') as answer:
            print(await answer.text())
asyncio.run(main())
",
        wrong: "aiohttp.ClientSession()",
        remedy: "aiohttp.ClientSession",
        says: "only on request",
    };
    the_remedy_for_http_client_works: Case {
        interpreter: Interpreter::Python,
        script: "
import http.client, urllib.request
URL = 'https://HOST/a'
def get():
    connection = http.client.HTTPSConnection('HOST', timeout=20)
    connection.request('GET', '/a')
    return connection.getresponse()
print(HOLE.read().decode())
",
        wrong: "get()",
        remedy: "urllib.request.urlopen",
        says: "reads no proxy variable",
    };
    the_remedy_for_stripe_works: Case {
        interpreter: Interpreter::Python,
        script: "
import os, stripe
HOLE
stripe.api_key, stripe.api_base, stripe.max_network_retries = 'sk_test_x', 'https://HOST', 0
print(stripe.Balance.retrieve())
",
        wrong: "",
        remedy: "stripe.ca_bundle_path",
        says: "its own CA file",
    };
    the_remedy_for_certifi_works: Case {
        interpreter: Interpreter::Python,
        script: "
import certifi, os, requests
print(requests.get('https://HOST/a', verify=HOLE, timeout=20).text)
",
        wrong: "certifi.where()",
        remedy: "os.environ[",
        says: "does not contain the CA",
    };
    the_remedy_for_buns_ws_works: Case {
        interpreter: Interpreter::Bun,
        script: "
import WebSocket from 'ws';
const URL = 'wss://HOST/a', socket = HOLE;
// It tells at most the status of an answer that does not switch protocols.
const isFine = (message) => /Unexpected server response: 200$/.test(message);
socket.on('error', ({ message }) => {
  console.log(isFine(message) ? 'fine' : message);
  process.exit(1);
});
",
        wrong: "new WebSocket(URL)",
        remedy: "new WebSocket(URL, ",
        says: "Bun has its own `ws`, which reads no proxy variable",
    };
}

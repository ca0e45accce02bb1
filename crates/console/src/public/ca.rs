//! `/ca`: the gateway, its certificate authority, and how systems and programs trust it. It names no agent, no connection
//! and no file of the gateway.

use axum::Router;
use axum::extract::{Extension, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use maud::{Markup, html};

use super::page::{PublicPage, links};
use crate::parts::{facts, with_code};
use keyward_api::handler::get;
use keyward_api::{Admin, Arrival, PublicFacts};
use keyward_base::codes::ERRORS_PATH;

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/ca", get(page))
}

async fn page(
    State(admin): State<Admin>,
    arrival: Option<Extension<Arrival>>,
    fields: HeaderMap,
) -> Response {
    let gateway = PublicFacts::of(&admin);
    let is_tls = arrival.is_some_and(|Extension(arrival)| arrival.is_tls);
    let base = base(&gateway.public_url, if is_tls { "https" } else { "http" }, &fields);
    let content = html! {
        p { "This is a Keyward gateway: a forward proxy that gives programs API access without giving them credentials." }
        (overview(&gateway))
        (authority(&gateway))
        (systems(&base))
        (browsers(&base))
        (programs(&base))
        h2 { "Use it" }
        (commands(&[
            "keyward connect                  # add an account, step by step",
            "keyward run --agent NAME -- CMD  # run a program through this gateway",
            "keyward doctor -- CMD            # find out why a program does not work",
        ]))
        p { (with_code("`keyward --help` lists all commands, and `keyward man` prints the manual.")) }
        (links(&[("What each error means", ERRORS_PATH)]))
    };
    PublicPage::new("Keyward", content).answer(StatusCode::OK)
}

/// The URL at which the reader reached this page. `Host` was checked.
fn base(public_url: &str, scheme: &str, fields: &HeaderMap) -> String {
    let host = fields.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_public = |host: &&str| {
        let rest = public_url.split_once("://").map_or("", |(_, rest)| rest);
        rest.split('/').next() == Some(*host)
    };
    match host {
        Some(host) if !is_public(&host) => format!("{scheme}://{host}"),
        _ => public_url.to_owned(),
    }
}

fn overview(gateway: &PublicFacts) -> Markup {
    let class = if gateway.is_ready { "good" } else { "bad" };
    let url = |at: &String| match at.starts_with("https://") {
        true => at.clone(),
        false => format!("http://{at}"),
    };
    let proxy: Vec<_> = gateway.proxy.iter().map(url).collect();
    let proxy = html! {
        @if proxy.is_empty() { "a unix socket on the gateway's machine" } @else { code { (proxy.join(", ")) } }
    };
    facts(&[
        ("State", Some(html! { span class=(class) { (gateway.state) } })),
        ("Version", Some(html! { (env!("CARGO_PKG_VERSION")) })),
        ("Proxy", Some(proxy)),
    ])
}

fn authority(gateway: &PublicFacts) -> Markup {
    html! {
        h2 { "Its certificate authority" }
        p {
            (with_code("Programs behind the proxy must trust this CA. `keyward run` and `keyward env` set it for single \
                programs, which need none of the steps below."))
        }
        (links(&[
            ("ca.pem", "/ca.pem"),
            ("ca.crt (DER)", "/ca.crt"),
            ("bundle.pem (CA and public roots)", "/bundle.pem"),
        ]))
        (facts(&[
            ("SHA-256", Some(html! { code { (gateway.fingerprint) } })),
            ("Valid until", Some(html! { (format!("{:.0}", gateway.expires)) })),
        ]))
        p {
            (with_code("Anyone with the key of a trusted CA can read the TLS traffic of the machine. Before you trust this \
                one, compare the fingerprint with the output of `keyward ca show` on the gateway's machine."))
        }
    }
}

/// Steps for the trust stores of systems.
fn systems(base: &str) -> Markup {
    let debian = "/usr/local/share/ca-certificates/keyward.crt";
    let fedora = "/etc/pki/ca-trust/source/anchors/keyward.pem";
    let to = |file: &str| format!("sudo curl -fo {file} {base}/ca.pem");
    html! {
        h2 { "Trust it on a system" }
        (steps("debian", "Debian, Ubuntu", html! {
            (commands(&[&to(debian), "sudo update-ca-certificates"]))
            p { (with_code("On the gateway's machine, `sudo keyward ca trust` does the same.")) }
        }))
        (steps("fedora", "Fedora, RHEL, CentOS Stream", commands(&[&to(fedora), "sudo update-ca-trust"])))
        (steps("macos", "macOS", commands(&[
            &format!("curl -fo keyward.pem {base}/ca.pem"),
            "sudo security add-trusted-cert -d -r trustRoot \\",
            "  -k /Library/Keychains/System.keychain keyward.pem",
        ])))
        (steps("windows", "Windows", html! {
            p { "In PowerShell as administrator:" }
            (commands(&[
                &format!("curl.exe -fo keyward.crt {base}/ca.crt"),
                "Import-Certificate -FilePath keyward.crt `",
                "  -CertStoreLocation Cert:\\LocalMachine\\Root",
            ]))
        }))
    }
}

fn browsers(base: &str) -> Markup {
    html! {
        (steps("firefox", "Firefox", html! {
            p { "Settings, Privacy & Security, View Certificates, Authorities, Import: choose ca.pem and tick “Trust this CA to identify websites”." }
        }))
        (steps("chrome", "Chrome, Chromium", html! {
            p { (with_code("On macOS and Windows they use the system’s store. On Linux, with `libnss3-tools`:")) }
            (commands(&[
                &format!("curl -fo keyward.pem {base}/ca.pem"),
                "certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n Keyward -i keyward.pem",
            ]))
        }))
    }
}

/// Steps for programs that have a trust store of their own.
fn programs(base: &str) -> Markup {
    html! {
        h2 { "Trust it in one program" }
        (steps("variables", "curl, Git, Python, Node.js, by variables", html! {
            (commands(&[
                &format!("curl -fO {base}/ca.pem -O {base}/bundle.pem"),
                "export CURL_CA_BUNDLE=$PWD/bundle.pem      # curl",
                "export GIT_SSL_CAINFO=$PWD/bundle.pem      # Git",
                "export SSL_CERT_FILE=$PWD/bundle.pem       # OpenSSL, Go, Ruby",
                "export REQUESTS_CA_BUNDLE=$PWD/bundle.pem  # Python",
                "export NODE_EXTRA_CA_CERTS=$PWD/ca.pem     # Node.js",
            ]))
            p { (with_code("`keyward env --agent NAME` prints these and the proxy’s variables for an agent.")) }
        }))
        (steps("java", "Java", commands(&[
            &format!("curl -fo keyward.crt {base}/ca.crt"),
            "sudo keytool -importcert -cacerts -alias keyward -file keyward.crt \\",
            "  -storepass changeit -noprompt",
        ])))
    }
}

/// What a click opens.
fn steps(id: &str, summary: &str, content: Markup) -> Markup {
    html! { details id=(id) { summary { (summary) } (content) } }
}

/// Commands, one a line.
fn commands(lines: &[&str]) -> Markup {
    html! { pre tabindex="0" { code { (lines.join("\n")) } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base_at(host: Option<&str>) -> String {
        let mut fields = HeaderMap::new();
        fields.extend(host.map(|host| (header::HOST, host.parse().unwrap())));
        base("https://kw.example.com/keyward", "http", &fields)
    }

    #[test]
    fn commands_name_the_address_that_the_reader_used() {
        assert_eq!(base_at(Some("127.0.0.1:8081")), "http://127.0.0.1:8081");
        assert_eq!(base_at(Some("kw.example.com")), "https://kw.example.com/keyward");
        assert_eq!(base_at(None), "https://kw.example.com/keyward");
    }
}

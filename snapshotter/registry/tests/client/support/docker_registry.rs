//! Debian's `docker-registry` as a process.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::fixture;

/// What its log says before the address that it has got.
const LISTENING: &str = "listening on ";

/// `me` with the password `secret`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running registry. It ends with the value.
pub(crate) struct DockerRegistry {
    process: Child,
    /// `127.0.0.1:PORT`
    pub(crate) address: String,
    _directory: tempfile::TempDir,
}

impl DockerRegistry {
    /// Open to everybody, over plain HTTP.
    pub(crate) fn start() -> Self {
        Self::start_with("", "")
    }

    /// Open to `me` with the password `secret`.
    pub(crate) fn with_password() -> Self {
        let auth = "auth:\n  htpasswd:\n    realm: test\n    path: DIRECTORY/htpasswd\n";
        Self::start_with("", auth)
    }

    /// Open to tokens of `varve-test` for `the-registry`.
    pub(crate) fn with_tokens(realm: &str) -> Self {
        Self::start_with("", &tokens(realm))
    }

    /// Over TLS with a certificate that no system trusts; `wants_client` asks for one in return.
    pub(crate) fn with_tls(wants_client: bool) -> Self {
        Self::start_with(&tls(wants_client), "")
    }

    /// Over TLS and with tokens.
    pub(crate) fn with_tls_and_tokens(realm: &str) -> Self {
        Self::start_with(&tls(false), &tokens(realm))
    }

    fn start_with(tls: &str, auth: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the registry");
        let place = directory.path().display().to_string();
        let config = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    \
             rootdirectory: DIRECTORY/storage\n  delete:\n    enabled: true\n\
             http:\n  addr: 127.0.0.1:0\n  secret: of-a-test\n{tls}{auth}"
        )
        .replace("DIRECTORY", &place);
        fs::write(directory.path().join("config.yml"), config).unwrap();
        fs::write(directory.path().join("htpasswd"), HTPASSWD).unwrap();
        let log = directory.path().join("log");
        let output = fs::File::create(&log).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(directory.path().join("config.yml"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .expect("docker-registry runs; install it: apt install docker-registry");
        let mut registry = DockerRegistry {
            process,
            address: String::new(),
            _directory: directory,
        };
        let deadline = Instant::now() + START_TIMEOUT;
        while registry.address.is_empty() {
            let text = fs::read_to_string(&log).unwrap();
            let ended = registry.process.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "docker-registry does not start: {text}"
            );
            let found = text
                .split_once(LISTENING)
                .and_then(|(_, rest)| rest.split_once(['"', ',']))
                .map(|(address, _)| address.to_owned());
            registry.address = found.unwrap_or_default();
            sleep(Duration::from_millis(10));
        }
        TcpStream::connect(&registry.address).expect("the registry listens");
        registry
    }
}

fn tokens(realm: &str) -> String {
    format!(
        "auth:\n  token:\n    realm: {realm}\n    service: the-registry\n    \
         issuer: varve-test\n    rootcertbundle: {}\n",
        fixture("ca.pem").display()
    )
}

fn tls(wants_client: bool) -> String {
    let mut tls = format!(
        "  tls:\n    certificate: {}\n    key: {}\n",
        fixture("server.pem").display(),
        fixture("server.key").display()
    );
    if wants_client {
        let ca = fixture("ca.pem");
        tls += &format!("    clientcas:\n      - {}\n", ca.display());
    }
    tls
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        // It may have ended by itself, which is no problem of the test any more.
        if self.process.kill().is_ok() {
            self.process
                .wait()
                .expect("a killed child can be waited for");
        }
    }
}

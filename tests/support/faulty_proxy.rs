//! A proxy before a real registry, which breaks what passes: by a seed, so that a run can be
//! repeated.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::fake_server::{parse_head, read_head};

/// What is done to one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Nothing.
    None,
    /// 429 in place of an answer.
    TooMany,
    /// 503 in place of an answer.
    Unavailable,
    /// Closed before anything is said.
    Refused,
    /// The request is passed on in part.
    CutRequest,
    /// The answer is passed on in part, head or body.
    CutAnswer,
    /// Nothing more comes after a part of the answer.
    Hang,
    /// One byte of the answer's body is another.
    Corrupt,
    /// The head promises more than there is.
    TooLong,
}

const FAULTS: &[Fault] = &[
    Fault::TooMany,
    Fault::Unavailable,
    Fault::Refused,
    Fault::CutRequest,
    Fault::CutAnswer,
    Fault::CutAnswer,
    Fault::CutAnswer,
    Fault::Hang,
    Fault::Corrupt,
    Fault::TooLong,
];

/// The proxy. It ends with the value.
#[derive(Debug)]
pub struct FaultyProxy {
    /// `127.0.0.1:PORT`
    pub address: String,
    done: Arc<Mutex<Vec<Fault>>>,
    task: JoinHandle<()>,
}

impl FaultyProxy {
    /// Breaks one of `1 / share` exchanges with `upstream`. Needs a tokio runtime, and lives in it.
    ///
    /// # Panics
    /// It cannot listen.
    pub async fn start(upstream: &str, seed: u64, share: f64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let done = Arc::new(Mutex::new(Vec::new()));
        let (upstream, notes) = (upstream.to_owned(), done.clone());
        let task = tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            while let Ok((stream, _)) = listener.accept().await {
                let fault = if random.random_bool(share) {
                    FAULTS[random.random_range(0..FAULTS.len())]
                } else {
                    Fault::None
                };
                notes.lock().expect("no thread panicked").push(fault);
                let own = StdRng::seed_from_u64(random.random());
                let upstream = upstream.clone();
                tokio::spawn(async move {
                    // Either side may be gone; that is what this is about.
                    drop(pass(stream, &upstream, fault, own).await);
                });
            }
        });
        FaultyProxy {
            address,
            done,
            task,
        }
    }

    /// What was done, one for each connection.
    ///
    /// # Panics
    /// A thread has panicked.
    #[must_use]
    pub fn done(&self) -> Vec<Fault> {
        self.done.lock().expect("no thread panicked").clone()
    }
}

impl Drop for FaultyProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One exchange; the connection is closed after it.
async fn pass(
    mut client: TcpStream,
    upstream: &str,
    fault: Fault,
    mut random: StdRng,
) -> std::io::Result<()> {
    if fault == Fault::Refused {
        return Ok(());
    }
    let head = read_head(&mut client).await?;
    if head.is_empty() {
        return Ok(());
    }
    let request = parse_head(&head);
    let length: usize = request
        .header("content-length")
        .map_or(0, |text| text.parse().expect("a length"));
    let mut server = TcpStream::connect(upstream).await?;
    let mut body = vec![0; length];
    if fault == Fault::CutRequest {
        let kept = random.random_range(0..=length);
        client.read_exact(&mut body[..kept]).await?;
        server.write_all(&head).await?;
        server.write_all(&body[..kept]).await?;
        return Ok(());
    }
    client.read_exact(&mut body).await?;
    let refused = match fault {
        Fault::TooMany => Some("429 Too Many Requests\r\nretry-after: 0"),
        Fault::Unavailable => Some("503 Service Unavailable"),
        _ => None,
    };
    if let Some(status) = refused {
        let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        return client.write_all(answer.as_bytes()).await;
    }
    let head = String::from_utf8_lossy(&head).replacen("\r\n", "\r\nConnection: close\r\n", 1);
    server.write_all(head.as_bytes()).await?;
    server.write_all(&body).await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    spoil(&mut answer, fault, &request.method, &mut random);
    client.write_all(&answer).await?;
    client.flush().await?;
    if fault == Fault::Hang {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    Ok(())
}

fn spoil(answer: &mut Vec<u8>, fault: Fault, method: &str, random: &mut StdRng) {
    let end_of_head = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let body = end_of_head.map_or(answer.len(), |at| at + 4);
    match fault {
        Fault::CutAnswer | Fault::Hang => {
            // Bodies are what matters; heads are cut now and then.
            let from = if random.random_bool(0.2) {
                0
            } else {
                body.min(answer.len())
            };
            answer.truncate(random.random_range(from..=answer.len()));
        }
        Fault::Corrupt if body < answer.len() => {
            let at = random.random_range(body..answer.len());
            answer[at] ^= 1 << random.random_range(0..8);
        }
        Fault::TooLong if method == "GET" => {
            let head = String::from_utf8_lossy(&answer[..body]).into_owned();
            let mut changed = Vec::new();
            for line in head.split("\r\n") {
                let length = line.to_ascii_lowercase();
                match length.strip_prefix("content-length: ") {
                    Some(length) => {
                        let length: u64 = length.parse().expect("a length");
                        changed.push(format!("Content-Length: {}", length + 7));
                    }
                    None => changed.push(line.to_owned()),
                }
            }
            let tail = answer.split_off(body);
            *answer = changed.join("\r\n").into_bytes();
            answer.extend(tail);
        }
        _ => {}
    }
}

//! A relay in front of a server that passes requests on and holds the answers back until it is told to let them go: so a
//! test can do something while the agent waits, however fast or slow both are.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// A running relay. It ends when this is dropped.
pub(super) struct Relay {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// A relay that holds all answers of this server.
    pub(super) async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (is_open, opened) = watch::channel(false);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(pass(client, server, opened.clone()));
            }
        });
        Self { address, is_open, accepting }
    }

    /// Its base, without a slash at the end.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets go what is held, and all that comes.
    pub(super) fn release(&self) {
        self.is_open.send_replace(true);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(mut client: TcpStream, server: SocketAddr, mut opened: watch::Receiver<bool>) -> io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let requests = copy(&mut from_client, &mut to_server);
    let answers = async {
        // The sender is gone only when the test has ended.
        let _ = opened.wait_for(|is_open| *is_open).await;
        copy(&mut from_server, &mut to_client).await
    };
    tokio::try_join!(requests, answers).map(|_| ())
}

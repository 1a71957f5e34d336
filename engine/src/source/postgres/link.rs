//! Link: the connection that streams. Frames come in; what goes out is how far the server may
//! forget, and of that it takes nothing but what raising the floor has given (R13).

use crate::engine::RaisedFloor;
use pg_walstream::{CancellationToken, PgReplicationConnection, ReplicationError};
use std::ops::Deref;

/// See the file's head.
pub(super) struct Link {
    connection: PgReplicationConnection,
    /// Reading ends by being dropped, never by this token.
    never: CancellationToken,
}

impl Link {
    /// Of a connection on which START_REPLICATION was answered.
    pub(super) fn new(connection: PgReplicationConnection) -> Link {
        Link { connection, never: CancellationToken::new() }
    }

    /// The next frame.
    pub(super) async fn frame(
        &mut self,
    ) -> Result<impl Deref<Target = [u8]> + use<>, ReplicationError> {
        self.connection.get_copy_data_async(&self.never).await
    }

    /// Tells the server through where it may forget. Moves nothing (INV6). All three fields say the
    /// same: a server must never take what was only received for flushed.
    pub(super) async fn tell(&mut self, raised: RaisedFloor) -> Result<(), ReplicationError> {
        let lsn = raised.lsn().as_u64();
        self.connection.send_standby_status_update(lsn, lsn, lsn, false).await
    }
}

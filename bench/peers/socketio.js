// A minimal chat on Socket.IO, PostgreSQL and Redis: one INSERT per message, then delivered through all processes.
const { createServer } = require("http");
const { createAdapter } = require("@socket.io/redis-adapter");
const { Pool } = require("pg");
const { createClient } = require("redis");
const { Server } = require("socket.io");

const INSERT = {
  name: "insert",
  text: "INSERT INTO messages (author, recipient, nonce, body) VALUES ($1, $2, $3, $4) RETURNING id, created_at",
};

async function main() {
  const pool = new Pool({ host: process.env.PGHOST, user: "knock", database: process.env.PGDATABASE, max: 10 });
  await pool.query(`CREATE TABLE IF NOT EXISTS messages (
    id bigserial PRIMARY KEY, author text NOT NULL, recipient text NOT NULL, nonce text NOT NULL UNIQUE,
    body text NOT NULL, created_at timestamptz NOT NULL DEFAULT now())`);
  const publisher = createClient({ socket: { path: process.env.REDIS_SOCKET } });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);

  const http = createServer();
  const io = new Server(http, { adapter: createAdapter(publisher, subscriber) });
  io.on("connection", (socket) => {
    const me = /user=(\w+)/.exec(socket.handshake.headers.cookie)[1];
    socket.join(me);
    socket.on("send", async ({ to, nonce, body }) => {
      const { rows } = await pool.query({ ...INSERT, values: [me, to, nonce, body] });
      io.to(to).to(me).emit("message", { id: rows[0].id, author: me, nonce, body, createdAt: rows[0].created_at });
    });
  });
  http.listen(Number(process.env.PORT), "127.0.0.1");
}

main();

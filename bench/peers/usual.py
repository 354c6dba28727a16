"""A chat as FastAPI's tutorials write it: the ORM, one commit per message, JSON to each socket."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from pydantic import BaseModel
from sqlalchemy import DateTime, func
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=10)
Session = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    pass


class Message(Base):
    __tablename__ = "messages"

    id: Mapped[int] = mapped_column(primary_key=True)
    author: Mapped[str]
    recipient: Mapped[str]
    nonce: Mapped[str] = mapped_column(unique=True)
    body: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class MessageIn(BaseModel):
    to: str
    nonce: str
    body: str


class MessageOut(BaseModel):
    model_config = {"from_attributes": True}

    id: int
    author: str
    nonce: str
    body: str
    created_at: datetime


class ConnectionManager:
    def __init__(self) -> None:
        self.active: dict[str, list[WebSocket]] = {}

    async def connect(self, user: str, websocket: WebSocket) -> None:
        await websocket.accept()
        self.active.setdefault(user, []).append(websocket)

    def disconnect(self, user: str, websocket: WebSocket) -> None:
        self.active[user].remove(websocket)

    async def send(self, user: str, message: MessageOut) -> None:
        for websocket in self.active.get(user, []):
            await websocket.send_json(message.model_dump(mode="json"))


manager = ConnectionManager()


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield


app = FastAPI(lifespan=lifespan)


@app.websocket("/ws")
async def chat(websocket: WebSocket) -> None:
    user = websocket.cookies["user"]
    await manager.connect(user, websocket)
    try:
        while True:
            sent = MessageIn.model_validate(await websocket.receive_json())
            async with Session() as session:
                message = Message(author=user, recipient=sent.to, nonce=sent.nonce, body=sent.body)
                session.add(message)
                await session.commit()
                await session.refresh(message)
            shown = MessageOut.model_validate(message)
            await manager.send(sent.to, shown)
            await manager.send(user, shown)
    except WebSocketDisconnect:
        manager.disconnect(user, websocket)

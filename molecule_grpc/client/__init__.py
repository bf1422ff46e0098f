"""The SDK for agents and operators."""

from __future__ import annotations

from molecule_grpc.client.agent import Agent
from molecule_grpc.client.connection import ClientCertificate
from molecule_grpc.client.errors import CallError, TaskFailed
from molecule_grpc.client.items import Item
from molecule_grpc.client.platform import Platform

__all__ = ["Agent", "CallError", "ClientCertificate", "Item", "Platform", "TaskFailed"]

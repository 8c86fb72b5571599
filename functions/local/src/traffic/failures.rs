//! What goes wrong in the shop: status messages, and exceptions with their stack traces.

use super::shop::Language;

/// An exception as an instrumentation library records it.
#[derive(Debug)]
pub(super) struct Exception {
    pub(super) kind: &'static str,
    pub(super) message: &'static str,
    pub(super) stack: &'static str,
}

/// The exceptions that a service of `language` throws.
pub(super) fn exceptions(language: Language) -> &'static [&'static Exception] {
    match language {
        Language::Go => &[&GO_DEADLINE],
        Language::Java => &[&JAVA_LOCK, &JAVA_POOL],
        Language::Node => &[&NODE_HANG_UP],
        Language::Python => &[&PYTHON_TIMEOUT],
        Language::Dotnet => &[&DOTNET_TIMEOUT],
        Language::Rust => &[&RUST_CLOSED],
    }
}

const GO_DEADLINE: Exception = Exception {
    kind: "*status.Error",
    message: "rpc error: code = DeadlineExceeded desc = context deadline exceeded",
    stack: "goroutine 4711 [running]:\n\
        runtime/debug.Stack()\n\t/usr/local/go/src/runtime/debug/stack.go:26 +0x64\n\
        github.com/shop/telemetry.RecordError({0x1a3f0e8, 0xc000c1e2a0}, {0x19f5d60, 0xc0006e41b0})\n\
        \t/src/telemetry/errors.go:41 +0x9d\n\
        github.com/shop/service.(*Server).handle(0xc0002d8000, {0x1a3f0e8, 0xc000c1e2a0}, 0xc0005b6f00)\n\
        \t/src/service/server.go:213 +0x4f2\n\
        google.golang.org/grpc.(*Server).processUnaryRPC(0xc000280400, {0x1a3f120, 0xc000c1e120})\n\
        \t/go/pkg/mod/google.golang.org/grpc@v1.76.0/server.go:1405 +0x1036\n",
};

const JAVA_LOCK: Exception = Exception {
    kind: "org.springframework.orm.ObjectOptimisticLockingFailureException",
    message: "Row was updated or deleted by another transaction (or unsaved-value mapping was incorrect)",
    stack: "org.springframework.orm.ObjectOptimisticLockingFailureException: Row was updated or deleted\n\
        \tat org.springframework.orm.jpa.vendor.HibernateJpaDialect.convertHibernateAccessException(HibernateJpaDialect.java:325)\n\
        \tat org.springframework.orm.jpa.JpaTransactionManager.doCommit(JpaTransactionManager.java:571)\n\
        \tat org.springframework.transaction.interceptor.TransactionInterceptor.invoke(TransactionInterceptor.java:119)\n\
        \tat com.shop.domain.StockService$$SpringCGLIB$$0.reserve(<generated>)\n\
        \tat com.shop.api.StockEndpoint.reserve(StockEndpoint.java:88)\n\
        \tat io.grpc.stub.ServerCalls$UnaryServerCallHandler.onHalfClose(ServerCalls.java:182)\n\
        \tat java.base/java.lang.VirtualThread.run(VirtualThread.java:329)\n",
};

const JAVA_POOL: Exception = Exception {
    kind: "java.sql.SQLTransientConnectionException",
    message: "HikariPool-1 - Connection is not available, request timed out after 3000ms",
    stack: "java.sql.SQLTransientConnectionException: HikariPool-1 - Connection is not available\n\
        \tat com.zaxxer.hikari.pool.HikariPool.createTimeoutException(HikariPool.java:696)\n\
        \tat com.zaxxer.hikari.pool.HikariPool.getConnection(HikariPool.java:181)\n\
        \tat org.hibernate.engine.jdbc.connections.internal.DatasourceConnectionProviderImpl.getConnection(DatasourceConnectionProviderImpl.java:126)\n\
        \tat com.shop.domain.Repository.find(Repository.java:54)\n\
        \tat io.grpc.stub.ServerCalls$UnaryServerCallHandler.onHalfClose(ServerCalls.java:182)\n\
        \tat java.base/java.lang.VirtualThread.run(VirtualThread.java:329)\n",
};

const NODE_HANG_UP: Exception = Exception {
    kind: "Error",
    message: "socket hang up",
    stack: "Error: socket hang up\n\
        \x20   at Socket.socketOnEnd (node:_http_client:542:25)\n\
        \x20   at Socket.emit (node:events:532:35)\n\
        \x20   at endReadableNT (node:internal/streams/readable:1698:12)\n\
        \x20   at process.processTicksAndRejections (node:internal/process/task_queues:90:21)\n",
};

const PYTHON_TIMEOUT: Exception = Exception {
    kind: "httpx.ReadTimeout",
    message: "The read operation timed out",
    stack: "Traceback (most recent call last):\n\
        \x20 File \"/app/.venv/lib/python3.13/site-packages/httpx/_transports/default.py\", line 101, in map_httpcore_exceptions\n\
        \x20   yield\n\
        \x20 File \"/app/.venv/lib/python3.13/site-packages/httpcore/_async/http11.py\", line 217, in _receive_event\n\
        \x20   data = await self._network_stream.read(self.READ_NUM_BYTES, timeout=timeout)\n\
        \x20 File \"/app/shop/router.py\", line 164, in complete\n\
        \x20   async for chunk in provider.stream(prompt):\n\
        httpx.ReadTimeout: The read operation timed out\n",
};

const DOTNET_TIMEOUT: Exception = Exception {
    kind: "StackExchange.Redis.RedisTimeoutException",
    message: "Timeout performing HGETALL (1000ms), inst: 0, qu: 0, qs: 14, aw: False, bw: SpinningDown",
    stack: "StackExchange.Redis.RedisTimeoutException: Timeout performing HGETALL (1000ms)\n\
        \x20  at Shop.Cart.Store.RedisCartStore.GetAsync(String id) in /src/Store/RedisCartStore.cs:line 61\n\
        \x20  at Shop.Cart.CartService.GetCart(GetCartRequest request, ServerCallContext context) in /src/CartService.cs:line 44\n\
        \x20  at Grpc.AspNetCore.Server.Internal.CallHandlers.UnaryServerCallHandler`3.HandleCallAsyncCore(HttpContext httpContext)\n",
};

const RUST_CLOSED: Exception = Exception {
    kind: "tonic::transport::Error",
    message: "transport error: connection closed before message completed",
    stack: "   0: shop::client::call\n             at ./src/client.rs:118\n\
        \x20  1: tokio::runtime::task::core::Core<T,S>::poll\n\
        \x20            at /usr/local/cargo/registry/src/tokio-1.48.0/src/runtime/task/core.rs:365\n",
};

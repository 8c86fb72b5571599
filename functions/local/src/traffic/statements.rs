//! What the shop asks of its databases and caches.

/// A statement sent to a database or a cache.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) system: &'static str,
    pub(super) host: &'static str,
    pub(super) port: u16,
    pub(super) namespace: &'static str,
    pub(super) operation: &'static str,
    pub(super) collection: &'static str,
    /// `{}` stands for a random number in the texts of caches; others are parametrised.
    pub(super) text: &'static str,
    pub(super) median_us: f64,
    pub(super) fail_permyriad: u16,
}

const fn redis(host: &'static str, operation: &'static str, text: &'static str) -> Query {
    Query {
        system: "redis",
        host,
        port: 6379,
        namespace: "0",
        operation,
        collection: "",
        text,
        median_us: 240.0,
        fail_permyriad: 20,
    }
}

const fn postgres(
    host: &'static str,
    namespace: &'static str,
    operation: &'static str,
    collection: &'static str,
    text: &'static str,
    median_us: f64,
) -> Query {
    Query {
        system: "postgresql",
        host,
        port: 5432,
        namespace,
        operation,
        collection,
        text,
        median_us,
        fail_permyriad: 60,
    }
}

pub(super) static SESSION_GET: Query = redis("redis-sessions", "GET", "GET session:{}");
pub(super) static PROFILE_CACHE: Query = redis("redis-profiles", "HGETALL", "HGETALL profile:{}");
pub(super) static PRODUCT_CACHE: Query = redis("redis-catalog", "GET", "GET product:{}");
pub(super) static PRODUCT_CACHE_DEL: Query = redis("redis-catalog", "DEL", "DEL product:{}");
pub(super) static PRICE_CACHE: Query = redis("redis-pricing", "GET", "GET price:{}:EUR");
pub(super) static FEATURES_GET: Query = redis("redis-features", "MGET", "MGET user:{}:clicks user:{}:orders");
pub(super) static FEATURES_SET: Query = redis("redis-features", "ZINCRBY", "ZINCRBY user:{}:clicks ? ?");
pub(super) static CART_GET: Query = redis("redis-carts", "HGETALL", "HGETALL cart:{}");
pub(super) static CART_SET: Query = redis("redis-carts", "HSET", "HSET cart:{} ? ?");
pub(super) static CART_DEL: Query = redis("redis-carts", "DEL", "DEL cart:{}");
pub(super) static PRESENCE_SET: Query = redis("redis-presence", "SETEX", "SETEX presence:{} 60 ?");
pub(super) static PRESENCE_PUBLISH: Query = redis("redis-presence", "PUBLISH", "PUBLISH room:{} ?");

pub(super) static USER_BY_TOKEN: Query = postgres(
    "pg-auth-rw",
    "auth",
    "SELECT",
    "users",
    "SELECT u.id, u.email, u.roles FROM users u JOIN tokens t ON t.user_id = u.id WHERE t.hash = $1",
    900.0,
);
pub(super) static PROFILE_BY_ID: Query = postgres(
    "pg-profile-ro",
    "profile",
    "SELECT",
    "profiles",
    "SELECT * FROM profiles WHERE user_id = $1",
    700.0,
);
pub(super) static PRODUCT_BY_ID: Query = postgres(
    "pg-catalog-ro",
    "catalog",
    "SELECT",
    "products",
    "SELECT id, sku, title, description, images, attributes FROM products WHERE id = $1",
    850.0,
);
pub(super) static PRODUCTS_BY_CATEGORY: Query = postgres(
    "pg-catalog-ro",
    "catalog",
    "SELECT",
    "products",
    "SELECT id, sku, title, images FROM products WHERE category_id = $1 ORDER BY rank LIMIT $2",
    2_600.0,
);
pub(super) static PRODUCT_AVAILABILITY: Query = postgres(
    "pg-catalog-rw",
    "catalog",
    "UPDATE",
    "products",
    "UPDATE products SET available = $2, updated_at = now() WHERE id = $1",
    1_300.0,
);
pub(super) static PRICE_RULES: Query = postgres(
    "pg-pricing-ro",
    "pricing",
    "SELECT",
    "price_rules",
    "SELECT rule, priority FROM price_rules WHERE sku = ANY($1) AND valid @> now() ORDER BY priority",
    1_100.0,
);
pub(super) static STOCK_BY_PRODUCT: Query = postgres(
    "pg-inventory-ro",
    "inventory",
    "SELECT",
    "stock",
    "select s1_0.product_id,s1_0.warehouse_id,s1_0.quantity from stock s1_0 where s1_0.product_id=?",
    800.0,
);
pub(super) static STOCK_LOCK: Query = postgres(
    "pg-inventory-rw",
    "inventory",
    "SELECT",
    "stock",
    "select s1_0.product_id,s1_0.quantity from stock s1_0 where s1_0.product_id=? for update",
    1_200.0,
);
pub(super) static STOCK_RESERVE: Query = postgres(
    "pg-inventory-rw",
    "inventory",
    "UPDATE",
    "stock",
    "update stock set quantity=?,reserved=?,version=? where product_id=? and version=?",
    1_500.0,
);
pub(super) static PAYMENT_INSERT: Query = postgres(
    "pg-payment-rw",
    "payment",
    "INSERT",
    "payments",
    "insert into payments (amount,currency,order_id,provider,status,id) values (?,?,?,?,?,?)",
    1_400.0,
);
pub(super) static PAYMENT_UPDATE: Query = postgres(
    "pg-payment-rw",
    "payment",
    "UPDATE",
    "payments",
    "update payments set status=?,provider_reference=? where id=?",
    1_300.0,
);
pub(super) static FRAUD_HISTORY: Query = postgres(
    "pg-fraud-ro",
    "fraud",
    "SELECT",
    "decisions",
    "SELECT score, decided_at FROM decisions WHERE user_id = %(user_id)s ORDER BY decided_at DESC LIMIT 20",
    1_900.0,
);
pub(super) static ORDER_INSERT: Query = postgres(
    "pg-order-rw",
    "orders",
    "INSERT",
    "orders",
    "insert into orders (created_at,currency,status,total,user_id,id) values (?,?,?,?,?,?)",
    1_500.0,
);
pub(super) static ORDER_LINES_INSERT: Query = postgres(
    "pg-order-rw",
    "orders",
    "INSERT",
    "order_lines",
    "insert into order_lines (order_id,price,product_id,quantity,id) values (?,?,?,?,?)",
    1_200.0,
);
pub(super) static COMMIT: Query = postgres("pg-order-rw", "orders", "COMMIT", "", "COMMIT", 2_200.0);
pub(super) static ORDER_BY_ID: Query = postgres(
    "pg-order-ro",
    "orders",
    "SELECT",
    "orders",
    "select o1_0.id,o1_0.created_at,o1_0.currency,o1_0.status,o1_0.total from orders o1_0 where o1_0.id=?",
    900.0,
);
pub(super) static ORDER_LINES_BY_ORDER: Query = postgres(
    "pg-order-ro",
    "orders",
    "SELECT",
    "order_lines",
    "select l1_0.id,l1_0.price,l1_0.product_id,l1_0.quantity from order_lines l1_0 where l1_0.order_id=?",
    1_000.0,
);
pub(super) static RATES_BY_ZONE: Query = postgres(
    "pg-shipping-ro",
    "shipping",
    "SELECT",
    "rates",
    "SELECT carrier, price, days FROM rates WHERE zone = $1 AND weight_g >= $2",
    800.0,
);
pub(super) static SHIPMENT_BY_ORDER: Query = postgres(
    "pg-shipping-ro",
    "shipping",
    "SELECT",
    "shipments",
    "SELECT id, carrier, tracking, status FROM shipments WHERE order_id = $1",
    700.0,
);
pub(super) static SHIPMENT_INSERT: Query = postgres(
    "pg-shipping-rw",
    "shipping",
    "INSERT",
    "shipments",
    "INSERT INTO shipments (id, order_id, carrier, status) VALUES ($1, $2, $3, $4)",
    1_300.0,
);
pub(super) static CONVERSATION_APPEND: Query = Query {
    system: "mongodb",
    host: "mongo-assistant",
    port: 27017,
    namespace: "assistant",
    operation: "update",
    collection: "conversations",
    text: "{\"update\":\"conversations\",\"updates\":[{\"q\":{\"_id\":\"?\"},\"u\":{\"$push\":{\"turns\":\"?\"}}}]}",
    median_us: 1_600.0,
    fail_permyriad: 20,
};
pub(super) static SEARCH_INDEX: Query = Query {
    system: "elasticsearch",
    host: "es-products",
    port: 9200,
    namespace: "products",
    operation: "search",
    collection: "products-v12",
    text: "{\"query\":{\"multi_match\":{\"query\":\"?\",\"fields\":[\"title^3\",\"description\"]}},\"size\":\"?\"}",
    median_us: 9_000.0,
    fail_permyriad: 30,
};
pub(super) static SEARCH_BULK: Query = Query {
    system: "elasticsearch",
    host: "es-products",
    port: 9200,
    namespace: "products",
    operation: "bulk",
    collection: "products-v12",
    text: "{\"index\":{\"_id\":\"?\"}}",
    median_us: 14_000.0,
    fail_permyriad: 40,
};

//! The shop: twenty services in 86 pods, what each answers, and whom it calls to do so.
//!
//! Everything here is data; `trace` walks it. A call to another service gives two spans, one on each side.
//! Shoppers come through the gateway or over a websocket, staff and machines through queues.

use super::statements::{
    CART_DEL, CART_GET, CART_SET, COMMIT, CONVERSATION_APPEND, FEATURES_GET, FEATURES_SET, FRAUD_HISTORY,
    ORDER_BY_ID, ORDER_INSERT, ORDER_LINES_BY_ORDER, ORDER_LINES_INSERT, PAYMENT_INSERT, PAYMENT_UPDATE,
    PRESENCE_PUBLISH, PRESENCE_SET, PRICE_CACHE, PRICE_RULES, PRODUCT_AVAILABILITY, PRODUCT_BY_ID,
    PRODUCT_CACHE, PRODUCT_CACHE_DEL, PRODUCTS_BY_CATEGORY, PROFILE_BY_ID, PROFILE_CACHE, Query,
    RATES_BY_ZONE, SEARCH_BULK, SEARCH_INDEX, SESSION_GET, SHIPMENT_BY_ORDER, SHIPMENT_INSERT,
    STOCK_BY_PRODUCT, STOCK_LOCK, STOCK_RESERVE, USER_BY_TOKEN,
};

/// Position of a service in [`SERVICES`].
pub(super) type ServiceIdx = usize;

/// A service and what runs it.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: &'static str,
    pub(super) namespace: &'static str,
    pub(super) version: &'static str,
    pub(super) language: Language,
    pub(super) n_pods: u8,
}

/// Decides scopes, SDK attributes and what a stack trace looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    Go,
    Java,
    Node,
    Python,
    Dotnet,
    Rust,
}

const fn service(
    name: &'static str,
    namespace: &'static str,
    version: &'static str,
    language: Language,
    n_pods: u8,
) -> Service {
    Service { name, namespace, version, language, n_pods }
}

const GATEWAY: ServiceIdx = 0;
const WEBSOCKET: ServiceIdx = 1;
const STOREFRONT: ServiceIdx = 2;
const CART: ServiceIdx = 3;
const CATALOG: ServiceIdx = 4;
const SEARCH: ServiceIdx = 5;
const RECOMMENDATION: ServiceIdx = 6;
const PRICING: ServiceIdx = 7;
const INVENTORY: ServiceIdx = 8;
const CHECKOUT: ServiceIdx = 9;
const PAYMENT: ServiceIdx = 10;
const FRAUD: ServiceIdx = 11;
const ORDER: ServiceIdx = 12;
const SHIPPING: ServiceIdx = 13;
const NOTIFICATION: ServiceIdx = 14;
const AUTH: ServiceIdx = 15;
const PROFILE: ServiceIdx = 16;
const LLM_ROUTER: ServiceIdx = 17;
const EMBEDDING: ServiceIdx = 18;
const VECTOR_DB: ServiceIdx = 19;

/// All services; their pods add up to 86.
pub(super) static SERVICES: [Service; 20] = [
    service("gateway", "shop-edge", "4.18.2", Language::Go, 7),
    service("websocket", "shop-edge", "1.9.0", Language::Rust, 6),
    service("storefront", "shop", "2026.11.3", Language::Node, 5),
    service("cart", "shop", "3.2.7", Language::Dotnet, 5),
    service("catalog", "shop", "5.0.1", Language::Go, 5),
    service("search", "shop", "2.14.0", Language::Java, 4),
    service("recommendation", "shop-ai", "0.31.4", Language::Python, 4),
    service("pricing", "shop", "1.4.9", Language::Rust, 4),
    service("inventory", "shop", "7.3.0", Language::Java, 5),
    service("checkout", "shop", "6.11.5", Language::Go, 5),
    service("payment", "shop-pay", "8.2.1", Language::Java, 5),
    service("fraud", "shop-pay", "0.17.2", Language::Python, 3),
    service("order", "shop", "4.4.4", Language::Java, 4),
    service("shipping", "shop", "2.0.13", Language::Go, 3),
    service("notification", "shop", "1.22.0", Language::Node, 3),
    service("auth", "shop-edge", "3.7.1", Language::Go, 4),
    service("profile", "shop", "2.8.0", Language::Dotnet, 4),
    service("llm-router", "shop-ai", "0.9.12", Language::Python, 4),
    service("embedding", "shop-ai", "0.5.3", Language::Python, 2),
    service("vector-db", "shop-ai", "1.15.1", Language::Rust, 4),
];

/// Work that a service does when asked.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) service: ServiceIdx,
    pub(super) door: Door,
    /// Median of its own work, without that of whom it calls.
    pub(super) own_us: f64,
    /// It fails by itself in so many of 10,000 calls.
    pub(super) fail_permyriad: u16,
    pub(super) detail: Detail,
    pub(super) steps: &'static [Step],
}

/// How an operation is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Door {
    Http {
        method: &'static str,
        route: &'static str,
    },
    Rpc {
        service: &'static str,
        method: &'static str,
    },
    Socket {
        message: &'static str,
    },
    Queue {
        topic: &'static Topic,
        group: &'static str,
    },
    /// An operation inside the service of its caller.
    Inside {
        name: &'static str,
    },
}

/// What an operation tells about its business, beside what its door tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    Nothing,
    Product,
    Cart,
    Checkout,
    Payment,
    Search,
    Vector,
    Prompt,
    Shipment,
}

/// One call on the way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) call: Call,
    pub(super) percent: u8,
    pub(super) max_times: u8,
    /// Starts together with the step before it.
    pub(super) beside: bool,
}

/// Whom a step calls.
#[derive(Debug, Clone, Copy)]
pub(super) enum Call {
    /// Another service, or the same one for [`Door::Inside`].
    Ask(&'static Operation),
    Query(&'static Query),
    Publish(&'static Topic),
    Chat(&'static Model),
}

impl Step {
    const fn new(call: Call) -> Self {
        Self { call, percent: 100, max_times: 1, beside: false }
    }
    const fn percent(mut self, percent: u8) -> Self {
        self.percent = percent;
        self
    }
    const fn up_to(mut self, times: u8) -> Self {
        self.max_times = times;
        self
    }
    const fn beside(mut self) -> Self {
        self.beside = true;
        self
    }
}

const fn ask(operation: &'static Operation) -> Step {
    Step::new(Call::Ask(operation))
}
const fn query(query: &'static Query) -> Step {
    Step::new(Call::Query(query))
}
const fn publish(topic: &'static Topic) -> Step {
    Step::new(Call::Publish(topic))
}

/// A queue and who listens to it.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: &'static str,
    pub(super) n_partitions: u8,
    pub(super) consumers: &'static [&'static Operation],
}

/// A language model behind a provider's API.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) provider: &'static str,
    pub(super) host: &'static str,
    pub(super) names: &'static [(&'static str, &'static str)],
    pub(super) operation: &'static str,
    pub(super) median_us: f64,
    pub(super) fail_permyriad: u16,
}

/// What starts a trace, and how often: weights add up to 1,000.
pub(super) static ENTRIES: [(u16, &Operation); 12] = [
    (205, &GW_PRODUCT),
    (120, &GW_HOME),
    (120, &GW_SEARCH),
    (110, &GW_SESSION),
    (105, &GW_CART_ADD),
    (75, &GW_CART_VIEW),
    (65, &GW_CHECKOUT),
    (60, &GW_ORDER_STATUS),
    (55, &WS_CHAT),
    (45, &WS_PRESENCE),
    (25, &STOCK_CHANGED),
    (15, &REINDEX),
];

const fn http(
    service: ServiceIdx,
    method: &'static str,
    route: &'static str,
    own_us: f64,
    steps: &'static [Step],
) -> Operation {
    let door = Door::Http { method, route };
    Operation { service, door, own_us, fail_permyriad: 100, detail: Detail::Nothing, steps }
}

const fn rpc(
    callee: ServiceIdx,
    service: &'static str,
    method: &'static str,
    own_us: f64,
    steps: &'static [Step],
) -> Operation {
    let door = Door::Rpc { service, method };
    Operation { service: callee, door, own_us, fail_permyriad: 90, detail: Detail::Nothing, steps }
}

const fn inside(service: ServiceIdx, name: &'static str, own_us: f64, steps: &'static [Step]) -> Operation {
    let door = Door::Inside { name };
    Operation { service, door, own_us, fail_permyriad: 25, detail: Detail::Nothing, steps }
}

impl Operation {
    const fn about(mut self, detail: Detail) -> Self {
        self.detail = detail;
        self
    }
    const fn failing(mut self, permyriad: u16) -> Self {
        self.fail_permyriad = permyriad;
        self
    }
}

// The gateway: checks the session, then passes on.
static GW_PRODUCT: Operation = http(
    GATEWAY,
    "GET",
    "/api/products/{product}",
    300.0,
    &[ask(&AUTHENTICATE).percent(60), ask(&PRODUCT_PAGE)],
);
static GW_HOME: Operation =
    http(GATEWAY, "GET", "/api/home", 300.0, &[ask(&AUTHENTICATE).percent(60), ask(&HOME_PAGE)]);
static GW_SEARCH: Operation =
    http(GATEWAY, "GET", "/api/search", 300.0, &[ask(&AUTHENTICATE).percent(50), ask(&SEARCH_PAGE)]);
static GW_SESSION: Operation = http(GATEWAY, "GET", "/api/session", 250.0, &[ask(&AUTHENTICATE)]);
static GW_CART_ADD: Operation =
    http(GATEWAY, "POST", "/api/carts/{cart}/items", 300.0, &[ask(&AUTHENTICATE), ask(&CART_ADD_PAGE)]);
static GW_CART_VIEW: Operation =
    http(GATEWAY, "GET", "/api/carts/{cart}", 300.0, &[ask(&AUTHENTICATE), ask(&CART_PAGE)]);
static GW_CHECKOUT: Operation =
    http(GATEWAY, "POST", "/api/checkout", 350.0, &[ask(&AUTHENTICATE), ask(&CHECKOUT_PAGE)]);
static GW_ORDER_STATUS: Operation =
    http(GATEWAY, "GET", "/api/orders/{order}", 300.0, &[ask(&AUTHENTICATE), ask(&ORDER_STATUS)]);

// The storefront: one page, many questions.
static PRODUCT_PAGE: Operation = http(
    STOREFRONT,
    "GET",
    "/products/{product}",
    1_800.0,
    &[
        ask(&GET_PRODUCT),
        ask(&QUOTE).beside(),
        ask(&STOCK_LEVEL).beside(),
        ask(&RECOMMEND).percent(40).beside(),
        ask(&RENDER),
    ],
)
.about(Detail::Product);
static HOME_PAGE: Operation = http(
    STOREFRONT,
    "GET",
    "/home",
    1_500.0,
    &[ask(&RECOMMEND), ask(&LIST_PRODUCTS).beside(), ask(&GET_PROFILE).percent(60).beside(), ask(&RENDER)],
);
static SEARCH_PAGE: Operation = http(
    STOREFRONT,
    "GET",
    "/search",
    1_500.0,
    &[ask(&SEARCH_PRODUCTS), ask(&QUOTE).percent(70), ask(&RENDER)],
)
.about(Detail::Search);
static CART_ADD_PAGE: Operation =
    http(STOREFRONT, "POST", "/carts/{cart}/items", 900.0, &[ask(&ADD_ITEM), ask(&QUOTE)])
        .about(Detail::Cart);
static CART_PAGE: Operation =
    http(STOREFRONT, "GET", "/carts/{cart}", 1_100.0, &[ask(&GET_CART), ask(&QUOTE), ask(&RENDER)])
        .about(Detail::Cart);
static CHECKOUT_PAGE: Operation =
    http(STOREFRONT, "POST", "/checkout", 1_000.0, &[ask(&PLACE_ORDER)]).about(Detail::Cart);
static RENDER: Operation = inside(STOREFRONT, "render view", 2_500.0, &[]);

static AUTHENTICATE: Operation = rpc(
    AUTH,
    "shop.auth.v1.AuthService",
    "Authenticate",
    250.0,
    &[query(&SESSION_GET), query(&USER_BY_TOKEN).percent(15)],
);
static GET_PROFILE: Operation = rpc(
    PROFILE,
    "shop.profile.v1.ProfileService",
    "GetProfile",
    500.0,
    &[query(&PROFILE_CACHE), query(&PROFILE_BY_ID).percent(35)],
);
static GET_PRODUCT: Operation = rpc(
    CATALOG,
    "shop.catalog.v2.CatalogService",
    "GetProduct",
    400.0,
    &[query(&PRODUCT_CACHE), query(&PRODUCT_BY_ID).percent(40)],
)
.about(Detail::Product);
static LIST_PRODUCTS: Operation = rpc(
    CATALOG,
    "shop.catalog.v2.CatalogService",
    "ListProducts",
    700.0,
    &[query(&PRODUCT_CACHE).up_to(3), query(&PRODUCTS_BY_CATEGORY).percent(50)],
);
static QUOTE: Operation = rpc(
    PRICING,
    "shop.pricing.v1.PricingService",
    "Quote",
    180.0,
    &[query(&PRICE_CACHE), query(&PRICE_RULES).percent(20)],
)
.about(Detail::Product);
static STOCK_LEVEL: Operation =
    rpc(INVENTORY, "shop.inventory.v1.InventoryService", "GetStockLevel", 600.0, &[query(&STOCK_BY_PRODUCT)])
        .about(Detail::Product);
static RESERVE: Operation = rpc(
    INVENTORY,
    "shop.inventory.v1.InventoryService",
    "Reserve",
    900.0,
    &[query(&STOCK_LOCK), query(&STOCK_RESERVE).up_to(3), publish(&STOCK_TOPIC).percent(30)],
)
.about(Detail::Product)
.failing(60);
static SEARCH_PRODUCTS: Operation = rpc(
    SEARCH,
    "shop.search.v1.SearchService",
    "SearchProducts",
    1_500.0,
    &[ask(&EMBED).percent(60), ask(&VECTOR_SEARCH).percent(60), query(&SEARCH_INDEX).beside(), ask(&RANK)],
)
.about(Detail::Search);
static RANK: Operation = inside(SEARCH, "rank candidates", 1_900.0, &[]);
static RECOMMEND: Operation = rpc(
    RECOMMENDATION,
    "shop.recommendation.v1.RecommendationService",
    "Recommend",
    2_200.0,
    &[query(&FEATURES_GET), ask(&VECTOR_SEARCH), ask(&PREDICT)],
);
static PREDICT: Operation = inside(RECOMMENDATION, "model.predict", 4_000.0, &[]);

static ADD_ITEM: Operation = rpc(
    CART,
    "shop.cart.v1.CartService",
    "AddItem",
    500.0,
    &[query(&CART_GET), ask(&STOCK_LEVEL), query(&CART_SET), publish(&CART_TOPIC).percent(40)],
)
.about(Detail::Cart);
static GET_CART: Operation =
    rpc(CART, "shop.cart.v1.CartService", "GetCart", 350.0, &[query(&CART_GET), ask(&GET_PRODUCT).up_to(3)])
        .about(Detail::Cart);
static EMPTY_CART: Operation =
    rpc(CART, "shop.cart.v1.CartService", "EmptyCart", 250.0, &[query(&CART_DEL)]).about(Detail::Cart);

static PLACE_ORDER: Operation = rpc(
    CHECKOUT,
    "shop.checkout.v1.CheckoutService",
    "PlaceOrder",
    1_200.0,
    &[
        ask(&GET_CART),
        ask(&QUOTE).up_to(2),
        ask(&SHIPPING_QUOTE).beside(),
        ask(&RESERVE),
        ask(&CHARGE),
        ask(&CREATE_ORDER),
        ask(&EMPTY_CART),
        publish(&ORDER_TOPIC),
    ],
)
.about(Detail::Checkout)
.failing(40);
static CHARGE: Operation = rpc(
    PAYMENT,
    "shop.payment.v1.PaymentService",
    "Charge",
    1_500.0,
    &[ask(&SCORE), query(&PAYMENT_INSERT), ask(&PROVIDER_CHARGE), query(&PAYMENT_UPDATE)],
)
.about(Detail::Payment)
.failing(120);
static PROVIDER_CHARGE: Operation = inside(PAYMENT, "provider.authorize", 95_000.0, &[]).failing(150);
static SCORE: Operation = rpc(
    FRAUD,
    "shop.fraud.v1.FraudService",
    "Score",
    6_000.0,
    &[query(&FEATURES_GET).up_to(2), query(&FRAUD_HISTORY)],
)
.about(Detail::Payment);
static CREATE_ORDER: Operation = rpc(
    ORDER,
    "shop.order.v3.OrderService",
    "CreateOrder",
    1_100.0,
    &[query(&ORDER_INSERT), query(&ORDER_LINES_INSERT).up_to(2), query(&COMMIT)],
)
.about(Detail::Checkout);
static ORDER_STATUS: Operation = http(
    ORDER,
    "GET",
    "/orders/{order}",
    900.0,
    &[query(&ORDER_BY_ID), query(&ORDER_LINES_BY_ORDER), ask(&TRACK).percent(70)],
);
static SHIPPING_QUOTE: Operation =
    http(SHIPPING, "POST", "/v1/quotes", 1_300.0, &[query(&RATES_BY_ZONE)]).about(Detail::Shipment);
static TRACK: Operation = http(SHIPPING, "GET", "/v1/shipments/{order}", 700.0, &[query(&SHIPMENT_BY_ORDER)])
    .about(Detail::Shipment);

// The assistant.
static WS_CHAT: Operation = Operation {
    service: WEBSOCKET,
    door: Door::Socket { message: "chat.message" },
    own_us: 150.0,
    fail_permyriad: 30,
    detail: Detail::Nothing,
    steps: &[ask(&AUTHENTICATE).percent(30), ask(&COMPLETE)],
};
static WS_PRESENCE: Operation = Operation {
    service: WEBSOCKET,
    door: Door::Socket { message: "presence.update" },
    own_us: 90.0,
    fail_permyriad: 10,
    detail: Detail::Nothing,
    steps: &[query(&PRESENCE_SET), query(&PRESENCE_PUBLISH)],
};
static COMPLETE: Operation = http(
    LLM_ROUTER,
    "POST",
    "/v1/chat/completions",
    2_500.0,
    &[
        ask(&EMBED),
        ask(&VECTOR_SEARCH).up_to(2),
        ask(&GUARDRAIL),
        Step::new(Call::Chat(&CHAT)),
        ask(&GET_PRODUCT).percent(45).up_to(2),
        Step::new(Call::Chat(&CHAT)).percent(35),
        query(&CONVERSATION_APPEND),
    ],
)
.about(Detail::Prompt);
static GUARDRAIL: Operation = inside(LLM_ROUTER, "guardrail.check", 3_000.0, &[]).about(Detail::Prompt);
static EMBED: Operation =
    http(EMBEDDING, "POST", "/v1/embeddings", 5_500.0, &[ask(&TOKENIZE)]).about(Detail::Vector);
static TOKENIZE: Operation = inside(EMBEDDING, "tokenize", 350.0, &[]);
static VECTOR_SEARCH: Operation = rpc(
    VECTOR_DB,
    "vectordb.v1.Points",
    "Search",
    900.0,
    &[ask(&SEGMENT).up_to(2), ask(&RESCORE).percent(50)],
)
.about(Detail::Vector);
static SEGMENT: Operation = inside(VECTOR_DB, "segment.search", 1_600.0, &[]).about(Detail::Vector);
static RESCORE: Operation = inside(VECTOR_DB, "rescore", 300.0, &[]);

// The queues.
static ORDER_TOPIC: Topic = Topic { name: "orders.placed", n_partitions: 24, consumers: &[&SHIP, &CONFIRM] };
static CART_TOPIC: Topic = Topic { name: "carts.changed", n_partitions: 12, consumers: &[&LEARN] };
static STOCK_TOPIC: Topic = Topic { name: "stock.changed", n_partitions: 12, consumers: &[] };
static EMAIL_TOPIC: Topic = Topic { name: "emails.outgoing", n_partitions: 6, consumers: &[] };
static PRODUCT_TOPIC: Topic = Topic { name: "products.changed", n_partitions: 12, consumers: &[] };

const fn consume(
    service: ServiceIdx,
    topic: &'static Topic,
    group: &'static str,
    own_us: f64,
    steps: &'static [Step],
) -> Operation {
    let door = Door::Queue { topic, group };
    Operation { service, door, own_us, fail_permyriad: 60, detail: Detail::Nothing, steps }
}

static SHIP: Operation = consume(
    SHIPPING,
    &ORDER_TOPIC,
    "shipping-dispatch",
    1_600.0,
    &[query(&SHIPMENT_INSERT), ask(&GET_PROFILE)],
);
static CONFIRM: Operation = consume(
    NOTIFICATION,
    &ORDER_TOPIC,
    "order-confirmation",
    2_100.0,
    &[ask(&GET_PROFILE), ask(&RENDER_MAIL), publish(&EMAIL_TOPIC)],
);
static RENDER_MAIL: Operation = inside(NOTIFICATION, "render template", 3_500.0, &[]);
static LEARN: Operation = consume(
    RECOMMENDATION,
    &CART_TOPIC,
    "recommendation-features",
    900.0,
    &[query(&FEATURES_SET), query(&FEATURES_SET).percent(50)],
);
static STOCK_CHANGED: Operation = consume(
    CATALOG,
    &STOCK_TOPIC,
    "catalog-availability",
    700.0,
    &[query(&PRODUCT_AVAILABILITY), query(&PRODUCT_CACHE_DEL).up_to(3)],
);
static REINDEX: Operation = consume(
    SEARCH,
    &PRODUCT_TOPIC,
    "search-indexer",
    2_000.0,
    &[ask(&GET_PRODUCT).up_to(4), ask(&EMBED).up_to(2), query(&SEARCH_BULK), ask(&VECTOR_UPSERT)],
);
static VECTOR_UPSERT: Operation =
    rpc(VECTOR_DB, "vectordb.v1.Points", "Upsert", 1_400.0, &[ask(&WAL)]).about(Detail::Vector);
static WAL: Operation = inside(VECTOR_DB, "wal.append", 600.0, &[]);

static CHAT: Model = Model {
    provider: "openai",
    host: "api.openai.com",
    names: &[
        ("gpt-5-mini", "gpt-5-mini-2025-08-07"),
        ("gpt-5", "gpt-5-2025-08-07"),
        ("gpt-4.1-nano", "gpt-4.1-nano"),
    ],
    operation: "chat",
    median_us: 900_000.0,
    fail_permyriad: 250,
};

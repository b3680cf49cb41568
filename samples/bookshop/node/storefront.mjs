// The shop's front: a page and a JSON view of the books with their reviews, and a counter for orders.
import { call, json, serve } from "./shophttp.mjs";

const { CATALOG_URL, REVIEWS_URL, ORDERS_URL, PORT } = process.env;

// The shop tells its own staff ("internal") from its customers, and says so to the services it asks.
const asUser = (headers) => (headers["user-type"] ? { "user-type": headers["user-type"] } : {});

async function bookWithReviews(id, headers) {
  const path = encodeURIComponent(id);
  const [book, reviews] = await Promise.all([
    call(CATALOG_URL, `/books/${path}`),
    call(REVIEWS_URL, `/reviews/${path}`, { headers: asUser(headers) }),
  ]);
  return { ...book, reviews };
}

const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

function row({ title, author, cents, inStock, reviews }) {
  const stars = reviews.stars === undefined ? "" : ` ★ ${reviews.stars}`;
  return `<li><b>${escaped(title)}</b>, ${escaped(author)}, ${(cents / 100).toFixed(2)} €${stars}
    ${inStock ? "" : "(sold out)"}<br><i>${escaped(reviews.texts[0])}</i></li>`;
}

async function page({ headers }) {
  const books = await call(CATALOG_URL, "/books");
  const full = await Promise.all(books.map(({ id }) => bookWithReviews(id, headers)));
  const body = `<!doctype html><meta charset="utf-8"><title>Bookshop</title><h1>Bookshop</h1><ul>${full.map(row).join("")}</ul>\n`;
  return { status: 200, type: "text/html; charset=utf-8", body };
}

serve("storefront", Number(PORT), {
  "GET /": page,
  "GET /books": async () => json(200, await call(CATALOG_URL, "/books")),
  "GET /books/*": async ({ item, headers }) => json(200, await bookWithReviews(item, headers)),
  "POST /orders": async ({ body }) => json(201, await call(ORDERS_URL, "/orders", { method: "POST", body: body ?? {} })),
});

import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app";
import { live } from "./live";
import "./styles/base.css";
import "./styles/views.css";
import { startTheme } from "./theme";

startTheme();
live.start();
const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
}
